// Package bare is the least that can stand between a terminal and a bank: it does the same HSM and bank round trips as posp, over the
// same kind of pipelined connections, and nothing else. No database, no journal, no registry, no duplicate check, no reversal, no
// time-outs, no second try. It is the yardstick of "keyward bench" and must never see real money.
//
// The codecs are posp's own (iso/unionpay, iso/core), because a relay has to decode too; host commands are plain strings.
package bare

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/core"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/keys/secret"
)

// Config says where everything is. Cryptograms are key fields under the LMK of the HSMs.
type Config struct {
	HSMs     []string // addresses
	Channels int      // connections per HSM
	Bank     string   // address
	ZPK, ZAK string   // cryptograms
	Masters  map[string]string
	Acquirer string // field 32
}

// workKeys are the cryptograms of a signed-on terminal.
type workKeys struct{ pik, mak string }

// Relay serves terminals. Use it once: Start, Stop.
type Relay struct {
	cfg      Config
	hsms     []*HSM
	bank     *line
	turn     atomic.Uint64
	ref      atomic.Uint64
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	keys    map[string]workKeys
	conns   map[net.Conn]struct{}
}

// Start connects to HSMs and bank, signs on at the bank and serves terminals on a free port.
func Start(ctx context.Context, cfg Config) (_ *Relay, err error) {
	r := &Relay{cfg: cfg, keys: map[string]workKeys{}, conns: map[net.Conn]struct{}{}}
	defer func() {
		if err != nil {
			r.Stop()
		}
	}()
	for _, addr := range cfg.HSMs {
		h, err := DialHSM(ctx, addr, cfg.Channels)
		if err != nil {
			return nil, fmt.Errorf("bare relay: %w", err)
		}
		r.hsms = append(r.hsms, h)
	}
	if r.bank, err = openLine(ctx, cfg.Bank, referenceOf); err != nil {
		return nil, fmt.Errorf("bare relay: connect to the bank: %w", err)
	}
	if err := r.signOnAtBank(); err != nil {
		return nil, fmt.Errorf("bare relay: sign on at the bank: %w", err)
	}
	if r.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("bare relay: %w", err)
	}
	r.wg.Go(r.accept)
	return r, nil
}

// Addr is where terminals connect.
func (r *Relay) Addr() string { return r.listener.Addr().String() }

// Stop closes everything and waits.
func (r *Relay) Stop() {
	if r.listener != nil {
		_ = r.listener.Close() // only ever "already closed"
	}
	r.mu.Lock()
	r.stopped = true
	for c := range r.conns {
		_ = c.Close() // a terminal of the measurement is told nothing
	}
	r.mu.Unlock()
	for _, h := range r.hsms {
		h.Close()
	}
	if r.bank != nil {
		r.bank.close()
	}
	r.wg.Wait()
}

func (r *Relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		if r.stopped {
			_ = c.Close() // came while the relay stopped
		} else {
			r.conns[c] = struct{}{}
			r.wg.Go(func() { r.serve(c) })
		}
		r.mu.Unlock()
	}
}

// serve handles each frame of a terminal connection in a goroutine of its own, as posp does.
func (r *Relay) serve(c net.Conn) {
	defer func() { _ = c.Close() }() // the terminal hung up, or sent what this relay does not know
	var write sync.Mutex
	var work sync.WaitGroup
	defer work.Wait()
	_ = readFrames(c, func(frame []byte) error {
		work.Go(func() {
			answer, err := r.handle(frame)
			if err != nil {
				_ = c.Close() // the measurement sees it and fails
				return
			}
			write.Lock()
			defer write.Unlock()
			_ = writeFrame(c, answer) // likewise
		})
		return nil
	})
}

func (r *Relay) handle(frame []byte) ([]byte, error) {
	p, err := unionpay.Parse(frame)
	if err != nil {
		return nil, err
	}
	if p.Message.MTI() == "0800" {
		return r.signOn(p)
	}
	return r.purchase(frame, p)
}

// signOn: HC and HA, then BU for the check value of each.
func (r *Relay) signOn(p *unionpay.Packet) ([]byte, error) {
	terminal := p.Message.Text(iso.Terminal)
	master := r.cfg.Masters[terminal]
	var pik, mak pair
	err := together(
		func() (err error) { pik, err = r.makeKey("HC", master, ";XU0", 33, 33); return err },
		func() (err error) { mak, err = r.makeKey("HA", master, ";ZZ0", 16, 16); return err },
	)
	if err != nil {
		return nil, err
	}
	block := unionpay.KeyBlock{PIK: pik.workKey(), MAK: mak.workKey()}
	field62, err := block.Encode()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.keys[terminal] = workKeys{pik: pik.cryptogram, mak: mak.cryptogram}
	r.mu.Unlock()
	a, err := p.Answer(0)
	if err != nil {
		return nil, err
	}
	r.fill(p.Message, a.Message, r.reference())
	f60, err := unionpay.ParseF60(p.Message.Text(iso.Private60))
	if err != nil {
		return nil, err
	}
	f60.Batch = "000001"
	a.Message.Set(iso.Private60, f60.String())
	a.Message.SetBytes(iso.Private62, field62)
	return a.Encode()
}

// fill sets what every answer has.
func (r *Relay) fill(from, to *iso.Message, reference string) {
	to.Copy(from, iso.ProcessingCode, iso.Amount, iso.Trace, iso.ConditionCode, iso.Terminal, iso.Merchant, iso.Currency, iso.Private60)
	now := time.Now()
	to.Set(iso.LocalTime, now.Format("150405"))
	to.Set(iso.LocalDate, now.Format("0102"))
	to.Set(iso.Acquirer, r.cfg.Acquirer)
	to.Set(iso.Reference, reference)
	to.Set(iso.ResponseCode, "00")
}

// purchase: M8, CA, the bank's exchange with M6 and M8, M6.
func (r *Relay) purchase(frame []byte, p *unionpay.Packet) ([]byte, error) {
	m := p.Message
	r.mu.Lock()
	keys := r.keys[m.Text(iso.Terminal)]
	r.mu.Unlock()
	mab, err := unionpay.MAB(frame)
	if err != nil {
		return nil, err
	}
	folded := unionpay.Fold(mab)
	if _, err := r.ask("M8", macFields('0', '1', "003", keys.mak, folded[:])+m.Text(iso.MAC)); err != nil {
		return nil, err
	}
	track := strings.ReplaceAll(m.Text(iso.Track2), "D", "=")
	pan, _, _ := strings.Cut(track, "=")
	if len(pan) < 13 {
		return nil, fmt.Errorf("no track")
	}
	block := strings.ToUpper(hex.EncodeToString([]byte(m.Text(iso.PINBlock))))
	moved, err := r.ask("CA", keys.pik+r.cfg.ZPK+"12"+block+"0101"+pan[len(pan)-13:len(pan)-1])
	if err != nil {
		return nil, err
	}
	if len(moved) != 20 {
		return nil, fmt.Errorf("CA answered %d characters", len(moved))
	}
	zoneBlock, err := hex.DecodeString(moved[2:18])
	if err != nil {
		return nil, err
	}
	reply, err := r.exchange(r.financial(m, pan, track, zoneBlock))
	if err != nil {
		return nil, err
	}
	a, err := p.Answer(0)
	if err != nil {
		return nil, err
	}
	r.fill(m, a.Message, reply.Text(iso.Reference))
	a.Message.Set(iso.ResponseCode, reply.Text(iso.ResponseCode))
	a.Message.Set(iso.SettlementDate, reply.Text(iso.SettlementDate))
	a.Message.Set(iso.AuthCode, reply.Text(iso.AuthCode))
	a.Message.Set(iso.SecurityControl, m.Text(iso.SecurityControl))
	a.Message.Set(iso.Private63, "CUP")
	out, outMAB, err := a.EncodeForMAC()
	if err != nil {
		return nil, err
	}
	folded = unionpay.Fold(outMAB)
	mac, err := r.ask("M6", macFields('0', '1', "003", keys.mak, folded[:]))
	if err != nil {
		return nil, err
	}
	return out, unionpay.SetMAC(out, []byte(mac))
}

// financial makes the bank's 0200 (docs/dialect-core.md §5).
func (r *Relay) financial(m *iso.Message, pan, track string, pinBlock []byte) *iso.Message {
	out := iso.New("0200")
	out.Copy(m, iso.ProcessingCode, iso.Amount, iso.Trace, iso.EntryMode, iso.ConditionCode, iso.Terminal, iso.Merchant, iso.Currency, iso.PINCaptureCode)
	now := time.Now()
	out.Set(iso.PAN, pan)
	out.Set(iso.TransmissionTime, now.UTC().Format("0102150405"))
	out.Set(iso.LocalTime, now.Format("150405"))
	out.Set(iso.LocalDate, now.Format("0102"))
	out.Set(iso.Acquirer, r.cfg.Acquirer)
	out.Set(iso.Track2, track)
	out.Set(iso.Reference, r.reference())
	out.SetBytes(iso.PINBlock, pinBlock)
	out.Set(iso.SecurityControl, "2600000000000000")
	return out
}

// exchange asks the bank: M6 for the request, M8 for the answer.
func (r *Relay) exchange(m *iso.Message) (*iso.Message, error) {
	frame, mab, err := core.EncodeForMAC(m)
	if err != nil {
		return nil, err
	}
	mac, err := r.ask("M6", macFields('1', '3', "008", r.cfg.ZAK, mab))
	if err != nil {
		return nil, err
	}
	raw, err := hex.DecodeString(mac)
	if err != nil {
		return nil, err
	}
	if err := core.SetMAC(frame, raw); err != nil {
		return nil, err
	}
	answer, err := r.bank.exchange(m.Text(iso.Reference), frame)
	if err != nil {
		return nil, err
	}
	reply, err := core.Codec().Decode(answer)
	if err != nil {
		return nil, err
	}
	if mab, err = core.MAB(answer); err != nil {
		return nil, err
	}
	got, _ := reply.Bytes(iso.MAC128)
	_, err = r.ask("M8", macFields('1', '3', "008", r.cfg.ZAK, mab)+strings.ToUpper(hex.EncodeToString(got)))
	return reply, err
}

func (r *Relay) signOnAtBank() error {
	m := iso.New("0800")
	m.Set(iso.TransmissionTime, time.Now().UTC().Format("0102150405"))
	m.Set(iso.Trace, "000001")
	m.Set(iso.Acquirer, r.cfg.Acquirer)
	m.Set(iso.NetworkCode, core.SignOn)
	_, err := r.exchange(m)
	return err
}

// reference is a number that no other request of this relay has.
func (r *Relay) reference() string { return fmt.Sprintf("%012d", r.ref.Add(1)) }

// referenceOf finds the request of a bank's answer; the sign-on has no reference.
func referenceOf(frame []byte) string {
	m, err := core.Codec().Decode(frame)
	if err != nil {
		return "undecodable"
	}
	return m.Text(iso.Reference)
}

// pair is a new key: under the master key, under the LMK, and its check value.
type pair struct {
	sealed     []byte
	cryptogram string
	kcv        []byte
}

func (p pair) workKey() unionpay.WorkKey {
	w := unionpay.WorkKey{Cipher: secret.New(p.sealed)}
	copy(w.KCV[:], p.kcv)
	return w
}
