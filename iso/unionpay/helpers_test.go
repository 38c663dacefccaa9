package unionpay

import (
	"bufio"
	"crypto/cipher"
	"crypto/des"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"
)

// example is one public packet with what it must decode to.
type example struct {
	id     string
	frame  []byte // From the TPDU on.
	bare   bool   // The source had no TPDU and header; made-up ones were put in front.
	mti    string
	fields map[int]string
}

// madeUpFront is put before examples that start at the MTI.
const madeUpFront = "6000010000" + "603100310000"

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatalf("not hex: %v", err)
	}
	return b
}

// examples reads testdata/packets.txt and fails when it holds none.
func examples(tb testing.TB) []example {
	tb.Helper()
	f, err := os.Open("testdata/packets.txt")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var list []example
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "packet "); ok {
			parts := strings.Fields(rest)
			e := example{id: parts[0], fields: map[int]string{}}
			switch raw := unhex(tb, parts[2]); parts[1] {
			case "frame":
				if len(raw)-2 != int(hexLen(raw)) {
					tb.Fatalf("packet %s: length prefix does not fit", parts[0])
				}
				e.frame = raw[2:]
			case "tpdu":
				e.frame = raw
			case "message":
				e.frame, e.bare = append(unhex(tb, madeUpFront), raw...), true
			default:
				tb.Fatalf("packet %s: form %q", parts[0], parts[1])
			}
			list = append(list, e)
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || len(list) == 0 {
			tb.Fatalf("line %q is not understood", line)
		}
		last := &list[len(list)-1]
		if key == "mti" {
			last.mti = value
			continue
		}
		n, err := strconv.Atoi(key)
		if err != nil {
			tb.Fatal(err)
		}
		if raw, ok := strings.CutPrefix(value, "x:"); ok {
			value = string(unhex(tb, raw))
		}
		last.fields[n] = value
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	if len(list) == 0 {
		tb.Fatal("testdata/packets.txt holds no packet")
	}
	return list
}

func hexLen(b []byte) uint16 { return uint16(b[0])<<8 | uint16(b[1]) }

// find returns one example by its number.
func find(tb testing.TB, id string) example {
	tb.Helper()
	for _, e := range examples(tb) {
		if e.id == id {
			return e
		}
	}
	tb.Fatalf("packet %s is missing", id)
	return example{}
}

// desCipher is single DES or 3DES by the length of the key.
func desCipher(tb testing.TB, key []byte) cipher.Block {
	tb.Helper()
	switch len(key) {
	case 8:
		c, err := des.NewCipher(key)
		if err != nil {
			tb.Fatal(err)
		}
		return c
	case 16:
		key = append(append([]byte(nil), key...), key[:8]...)
	}
	c, err := des.NewTripleDESCipher(key)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// cbcMAC is what the HSM does with the folded characters: CBC-MAC with a zero initial value.
func cbcMAC(c cipher.Block, data []byte) []byte {
	state := make([]byte, c.BlockSize())
	for ; len(data) > 0; data = data[len(state):] {
		for i := range state {
			state[i] ^= data[i]
		}
		c.Encrypt(state, state)
	}
	return state
}

// shown is field 64 as the terminal writes it: the first 4 bytes in hex.
func shown(mac []byte) string { return strings.ToUpper(hex.EncodeToString(mac[:4])) }
