package posp

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/iso/unionpay/profile"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// currencyCNY is the only currency of this dialect (facts/unionpay.md §2, field 49).
const currencyCNY = "156"

// Field 53, security control (facts/unionpay.md §5): digit 1 PIN format, digit 2 algorithm, digit 3 track encryption.
const (
	pinNone      = '0'
	pinWithPAN   = '2'
	tracksClear  = '0'
	tracksSealed = '1'
)

// request maps an authentic message to a transaction. Tracks are deciphered in the HSM here, because the card number may be inside
// the enciphered part.
func (f *flow) request(ctx context.Context, in *incoming) (*txn.Request, error) {
	m := in.msg
	get := func(field int) string { v, _ := m.Get(field); return v }
	req := &txn.Request{
		Kind: kinds[in.row.Kind], Key: in.key(m.MTI()), ReceivedAt: in.at, ProcCode: get(iso.ProcessingCode), Currency: get(iso.Currency),
		Expiry: get(iso.Expiry), EntryMode: get(iso.EntryMode), CardSeq: get(iso.CardSequence), Condition: get(iso.ConditionCode),
		PINLength: get(iso.PINCaptureCode),
	}
	if b, ok := m.Bytes(iso.ChipData); ok {
		req.ICData = b
	}
	var err error
	if req.AuthCode, req.OriginalRRN = get(iso.AuthCode), get(iso.Reference); m.Has(iso.OriginalMessage) {
		f61, err := unionpay.ParseF61(get(iso.OriginalMessage))
		if err != nil {
			return nil, &refusal{code: codeFormat, why: "field 61", err: err}
		}
		req.Original = txn.Reference{Batch: f61.Batch, Trace: f61.Trace, Date: f61.Date}
	}
	if v, ok := m.Get(iso.Amount); ok {
		if req.Amount, err = iso.ParseAmount(v); err != nil {
			return nil, &refusal{code: codeFormat, why: "amount", err: err}
		}
	}
	if req.Kind.MovesMoney() && (req.Amount <= 0 || req.Amount > f.cfg.MaxAmount) {
		return nil, &refusal{code: codeAmount, why: "amount is zero or above the limit"}
	}
	if req.Currency != currencyCNY && (req.Kind.MovesMoney() || req.Currency != "") {
		return nil, &refusal{code: codeFormat, why: "currency is not 156"}
	}
	if req.PINBlock, err = in.profile.PIN(m, in.set.PIK.Algorithm); err != nil {
		return nil, &refusal{code: codeFormat, why: "PIN block", err: err}
	}
	security := get(iso.SecurityControl)
	if security == "" {
		security = "000"
	}
	if req.Track2, err = f.track(ctx, in, m.Secret(iso.Track2), security); err != nil {
		return nil, err
	}
	if req.Track3, err = f.track(ctx, in, m.Secret(iso.Track3), security); err != nil {
		return nil, err
	}
	if req.PAN, err = cardNumber(m, req.Track2); err != nil {
		return nil, err
	}
	req.Content = f.contentOf(in, req)
	return req, in.checkPIN(req, security)
}

// key is the duplicate key of a message, or of the original that a reversal names (same trace, field 60 and terminal).
func (in *incoming) key(mti string) txn.Key {
	trace, _ := in.msg.Get(iso.Trace)
	merchant, _ := in.msg.Get(iso.Merchant)
	return txn.Key{Terminal: in.terminal.ID, Merchant: merchant, Batch: in.f60.Batch, Trace: trace, MTI: mti, Type: in.f60.Type}
}

// contentOf digests the message without PIN block (wherever it travels) and MAC, under the sealing key because card data is in it. Tracks count in clear: a
// terminal that repeats a request after a new sign-on enciphers the same track under another key.
func (f *flow) contentOf(in *incoming, req *txn.Request) [32]byte {
	m := in.msg
	pinField := in.profile.PINField(in.set.PIK.Algorithm)
	var b []byte
	b = append(b, m.MTI()...)
	for _, field := range m.Fields() {
		if field == iso.PINBlock || field == iso.MAC {
			continue
		}
		v, _ := m.Get(field)
		switch field {
		case iso.Track2:
			v = string(req.Track2.Reveal())
		case iso.Track3:
			v = string(req.Track3.Reveal())
		case pinField:
			if !req.PINBlock.IsZero() {
				v = strings.Replace(v, string(req.PINBlock.Reveal()), "", 1)
			}
		}
		b = binary.BigEndian.AppendUint16(b, uint16(field))
		b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
		b = append(b, v...)
	}
	sum := f.seal.Digest(b)
	clear(b)
	return sum
}

// trackChars are what a clear track may hold: digits and the separator.
const trackChars = "0123456789="

// track gives a track in clear: deciphered in the HSM when field 53 says that the terminal enciphered it.
func (f *flow) track(ctx context.Context, in *incoming, t secret.Track, security string) (secret.Track, error) {
	if t.IsZero() {
		return t, nil
	}
	if security[2] != tracksSealed && security[2] != tracksClear {
		return t, &refusal{code: codeFormat, why: "track form of field 53 is not known"}
	}
	if security[2] == tracksClear {
		if strings.Trim(string(t.Reveal()), trackChars) != "" {
			return t, &refusal{code: codeFormat, why: "track holds something else than digits, and field 53 does not say that it is enciphered"}
		}
		return t, nil
	}
	if in.set.TDK.IsZero() {
		return t, &refusal{code: codeSignOn, why: "track is enciphered but the terminal has no track key; it must sign on with 004"}
	}
	if security[1] != in.profile.Digit(in.set.TDK.Algorithm) {
		return t, &refusal{code: codeFormat, why: "field 53 names another algorithm than the terminal has"}
	}
	size := unionpay.TrackBlock3DES
	if in.set.TDK.Algorithm == keys.SM4 {
		size = unionpay.TrackBlockSM4
	}
	cipher, err := unionpay.TrackBlock(t, size)
	if err != nil {
		return t, &refusal{code: codeFormat, why: "enciphered track", err: err}
	}
	hsmCtx, cancel := context.WithTimeout(ctx, f.cfg.HSMTimeout.Std())
	defer cancel()
	block, err := f.hsm.DecryptTrack(hsmCtx, in.set.TDK, cipher.Reveal())
	if err != nil {
		return t, &refusal{code: codeSystem, why: "decipher the track", err: err}
	}
	defer block.Wipe()
	clearTrack, err := unionpay.PutTrackBlock(t, block)
	if err != nil {
		return t, &refusal{code: codeFormat, why: "enciphered track", err: err}
	}
	if strings.Trim(string(clearTrack.Reveal()), trackChars) != "" {
		return t, &refusal{code: codeFormat, why: "track does not decipher to digits"}
	}
	return clearTrack, nil
}

// cardNumber takes the card number from field 2 or from track 2. When both are there they must agree: the PIN block is bound to
// the number, so nobody may choose between two.
func cardNumber(m *iso.Message, track2 secret.Track) (secret.PAN, error) {
	pan, err := m.CardNumber()
	if err != nil {
		return secret.PAN{}, &refusal{code: codeFormat, why: "field 2", err: err}
	}
	if track2.IsZero() {
		if pan.IsZero() {
			return secret.PAN{}, &refusal{code: codeFormat, why: "neither field 2 nor track 2 names a card"}
		}
		return pan, nil
	}
	digits, _, found := strings.Cut(string(track2.Reveal()), "=")
	if !found {
		return secret.PAN{}, &refusal{code: codeFormat, why: "track 2 has no separator"}
	}
	onTrack, err := secret.ParsePAN(digits)
	if err != nil {
		return secret.PAN{}, &refusal{code: codeFormat, why: "track 2", err: err}
	}
	if !pan.IsZero() && !pan.Equal(onTrack) {
		return secret.PAN{}, &refusal{code: codeFormat, why: "field 2 and track 2 name different cards"}
	}
	return onTrack, nil
}

// checkPIN holds the PIN block against field 53: the one PIN format that may be translated, under the algorithm that the terminal has, and
// no PIN that nobody announced.
func (in *incoming) checkPIN(req *txn.Request, security string) error {
	switch {
	case req.PINBlock.IsZero() && security[0] == pinNone:
		return nil
	case req.PINBlock.IsZero():
		return &refusal{code: codeFormat, why: "field 53 announces a PIN but field 52 is missing"}
	case security[0] != pinWithPAN:
		return &refusal{code: codeFormat, why: "PIN format of field 53 is not allowed"}
	case security[1] != in.profile.Digit(in.set.PIK.Algorithm):
		return &refusal{code: codeFormat, why: "field 53 names another algorithm than the terminal has"}
	case req.PAN.IsZero():
		return &refusal{code: codeFormat, why: "PIN without a card number"}
	}
	return nil
}

// pinPair is a PIN block's format as it comes from a terminal and as it goes to a host.
type pinPair struct{ from, to command.PINFormat }

// pinPairs are the pairs that may be translated, and there are no others: a translation between formats is how a PIN is found out in few
// tries. Each format here is bound to the account number, which comes from the MACed message and is the same on both sides. A block of a
// triple DES terminal never becomes one under SM4.
var pinPairs = map[pinPair]bool{
	{command.PINISO0, command.PINISO0}:         true,
	{command.PINSM4Wide, command.PINISO0}:      true,
	{command.PINSM4Wide, command.PINSM4Wide}:   true,
	{command.PINSM4Padded, command.PINISO0}:    true,
	{command.PINSM4Padded, command.PINSM4Wide}: true,
}

// pinFormat is the format of a terminal's PIN blocks.
func (in *incoming) pinFormat() command.PINFormat {
	switch {
	case in.set.PIK.Algorithm != keys.SM4:
		return command.PINISO0
	case in.profile.SM4PINBlock == profile.BlockPadded:
		return command.PINSM4Padded
	default:
		return command.PINSM4Wide
	}
}

// regroup is step 6: the transaction as the host wants it, the PIN under the host's zone key.
func (f *flow) regroup(ctx context.Context, in *incoming, req *txn.Request, entry *journal.Entry, h host.Host) (host.Request, error) {
	trace, rrn := entry.Reference()
	out := host.Request{
		Kind: req.Kind, Trace: trace, RRN: rrn, SentAt: entry.Began(), Terminal: req.Key.Terminal, Merchant: req.Key.Merchant,
		PAN: req.PAN, Expiry: req.Expiry, ProcCode: req.ProcCode, Amount: req.Amount, Currency: req.Currency,
		EntryMode: req.EntryMode, CardSeq: req.CardSeq, Condition: req.Condition, PINLength: req.PINLength,
		Track2: req.Track2, Track3: req.Track3, ICData: req.ICData,
		AuthCode: req.AuthCode, Try: 1,
	}
	if out.Currency == "" {
		out.Currency = currencyCNY
	}
	if req.Kind.Doubt() == txn.Deliver {
		// What has happened needs no track and no PIN, and what is sent now must be the same as what is sent again.
		out.ICData, out.Track2, out.Track3 = withoutTrack2(req.ICData), secret.Track{}, secret.Track{}
		return out, nil
	}
	if req.PINBlock.IsZero() {
		return out, nil
	}
	if err := f.checkPINRate(req); err != nil {
		return out, err
	}
	zone := h.Zone()
	zpk, err := zone.PINIn(in.set.PIK.Domain)
	if err != nil {
		return out, &refusal{code: codeSystem, why: "translate the PIN", err: err}
	}
	format := in.pinFormat()
	if !pinPairs[pinPair{format, zone.Format}] {
		return out, &refusal{code: codeSystem, why: fmt.Sprintf("PIN blocks are not moved from format %s to %s; give the host another format", format, zone.Format)}
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.HSMTimeout.Std())
	defer cancel()
	block, err := f.hsm.TranslatePIN(ctx, command.PINTranslation{
		From: in.set.PIK, To: zpk, FromFormat: format, ToFormat: zone.Format, Block: req.PINBlock, PAN: req.PAN,
	})
	if err != nil {
		return out, err
	}
	out.PINBlock = block
	return out, nil
}
