package bare

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	headerSize = 4 // of a host command
	// dialTime bounds one connect.
	dialTime = 5 * time.Second
	// answerTime keeps a broken measurement from hanging for ever; nothing here ever takes a second.
	answerTime = 30 * time.Second
)

// line is the pipelined connection to the bank: requests leave as they come, answers find theirs by a key.
type line struct {
	conn  net.Conn
	ended chan struct{}

	write   sync.Mutex
	mu      sync.Mutex
	pending map[string]chan []byte
}

func openLine(ctx context.Context, addr string, keyOf func([]byte) string) (*line, error) {
	conn, err := (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	l := &line{conn: conn, ended: make(chan struct{}), pending: map[string]chan []byte{}}
	go func() {
		defer close(l.ended)
		_ = readFrames(conn, func(frame []byte) error { // its end is told to all who wait
			l.mu.Lock()
			key := keyOf(frame)
			answer := l.pending[key]
			delete(l.pending, key)
			l.mu.Unlock()
			if answer == nil {
				return errors.New("an answer that nobody asked for")
			}
			answer <- frame
			return nil
		})
		_ = conn.Close() // after an error of the protocol; else closed already
	}()
	return l, nil
}

func (l *line) close() {
	_ = l.conn.Close() // only ever "already closed"
	<-l.ended
}

// exchange sends a frame and waits for the answer with its key.
func (l *line) exchange(key string, frame []byte) ([]byte, error) {
	answer := make(chan []byte, 1)
	l.mu.Lock()
	l.pending[key] = answer
	l.mu.Unlock()
	l.write.Lock()
	err := writeFrame(l.conn, frame)
	l.write.Unlock()
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(answerTime)
	defer timer.Stop()
	select {
	case a := <-answer:
		return a, nil
	case <-l.ended:
		return nil, errors.New("the connection ended")
	case <-timer.C:
		return nil, errors.New("no answer")
	}
}

// ask runs a host command on the next device and returns what follows the error code.
func (r *Relay) ask(command, fields string) (string, error) {
	answer, err := r.hsms[r.turn.Add(1)%uint64(len(r.hsms))].Exchange(command + fields)
	if err != nil {
		return "", fmt.Errorf("host command %s: %w", command, err)
	}
	const front = 2 + 2 // answer's name, error code
	if len(answer) < front || string(answer[front-2:front]) != "00" {
		return "", fmt.Errorf("host command %s was refused with code %s", command, answer[min(len(answer), front-2):min(len(answer), front)])
	}
	return string(answer[front:]), nil
}

// macFields are the fields that M6 and M8 share: whole binary message, zero padding (docs/hsm-sim.md §5.6).
func macFields(size, algorithm byte, keyType, key string, data []byte) string {
	return "00" + string([]byte{size, algorithm, '1'}) + keyType + key + fmt.Sprintf("%04X", len(data)) + string(data)
}

// makeKey is HC or HA with BU behind it. The lengths are those of the key fields, scheme letter included.
func (r *Relay) makeKey(command, master, schemes string, sealedLength, keyLength int) (p pair, err error) {
	answer, err := r.ask(command, master+schemes)
	if err != nil {
		return p, err
	}
	if len(answer) != sealedLength+keyLength {
		return p, fmt.Errorf("host command %s answered %d characters", command, len(answer))
	}
	if p.sealed, err = hex.DecodeString(answer[sealedLength%2 : sealedLength]); err != nil { // an odd length has a scheme letter
		return p, err
	}
	p.cryptogram = answer[sealedLength:]
	short, flag := "7D", "1"
	if command == "HA" {
		short, flag = "03", "0"
	}
	kcv, err := r.ask("BU", short+flag+p.cryptogram+";000")
	if err != nil {
		return p, err
	}
	p.kcv, err = hex.DecodeString(kcv)
	return p, err
}

// together runs all at the same time.
func together(work ...func() error) error {
	errs := make([]error, len(work))
	var wg sync.WaitGroup
	for i, w := range work {
		wg.Go(func() { errs[i] = w() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// readFrames hands every frame (2-byte length in front) to do until the connection or do ends it.
func readFrames(conn net.Conn, do func([]byte) error) error {
	in := bufio.NewReader(conn)
	var head [2]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return err
		}
		frame := make([]byte, binary.BigEndian.Uint16(head[:]))
		if _, err := io.ReadFull(in, frame); err != nil {
			return err
		}
		if err := do(frame); err != nil {
			return err
		}
	}
}

func writeFrame(conn net.Conn, frame []byte) error {
	out := make([]byte, 0, 2+len(frame))
	_, err := conn.Write(append(binary.BigEndian.AppendUint16(out, uint16(len(frame))), frame...))
	return err
}
