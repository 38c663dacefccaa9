package exchangelog

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var day = time.Date(2026, 3, 1, 8, 0, 0, 123_000, time.UTC)

// exchange is one as a cluster would record it.
func exchange(n uint64) Exchange {
	return Exchange{
		Serial: Serial{origin: "posp-1.mia4k2p39f2", count: n}, At: day.Add(time.Duration(n) * time.Millisecond), Group: "online", Member: "hsm1",
		Channel: 3, Command: "CA", For: "translate_pin", Sent: 96, Received: 27, Took: 812 * time.Microsecond, Result: "00",
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	const want = `{"at":"2026-03-01T08:00:01.042123Z","serial":"posp-1.mia4k2p39f2.1042","group":"online","member":"hsm1","channel":3,` +
		`"command":"CA","for":"translate_pin","sent":96,"received":27,"took_us":812,"result":"00"}`
	e := exchange(1042)
	if got, err := json.Marshal(e); err != nil || string(got) != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
	g := Gap{Group: "online", From: day, To: day.Add(time.Second), Lost: 17, Why: Disk}
	const gap = `{"at":"2026-03-01T08:00:01.000123Z","gap":"disk","group":"online","from":"2026-03-01T08:00:00.000123Z","lost":17}`
	if got, err := json.Marshal(g); err != nil || string(got) != gap {
		t.Errorf("%v\n got %s\nwant %s", err, got, gap)
	}
	var p parser
	if back, none, err := p.parse([]byte(want)); err != nil || back != e || none != (Gap{}) {
		t.Errorf("%+v %+v %v", back, none, err)
	}
	if none, back, err := p.parse([]byte(gap)); err != nil || back != g || none != (Exchange{}) {
		t.Errorf("%+v %+v %v", none, back, err)
	}
}

// The longest line must fit the buffer of Record, or it would cost an allocation, and no line may outgrow a reader.
func TestLongestLine(t *testing.T) {
	t.Parallel()
	e := Exchange{
		Serial: Serial{origin: NewSerials(strings.Repeat("i", 99), time.UnixMilli(100_000_000_000_000)).origin, count: math.MaxUint64},
		At:     day, Group: strings.Repeat("g", maxName), Member: strings.Repeat("m", maxName), Channel: math.MaxInt, Command: strings.Repeat("c", maxWord),
		For: strings.Repeat("f", maxWord), Sent: math.MaxInt, Received: math.MaxInt, Took: math.MaxInt64, Result: strings.Repeat("r", maxWord),
	}
	line, unfitTexts := appendExchange(nil, &e)
	if unfitTexts != 0 || len(line) > maxLine {
		t.Errorf("%d bytes of at most %d, %d unfit: %s", len(line), maxLine, unfitTexts, line)
	}
	if serial := e.Serial.String(); len(serial) > maxSerial {
		t.Errorf("serial %s has %d characters of at most %d", serial, len(serial), maxSerial)
	}
	var p parser
	if _, _, err := p.parse(line[:len(line)-1]); err != nil {
		t.Errorf("%s: %v", line, err)
	}
	low := Exchange{Channel: -1, Sent: -1, Received: math.MinInt, Took: -1, At: time.Unix(math.MinInt32*1000, 0)}
	line, _ = appendExchange(nil, &low)
	if _, _, err := p.parse(line[:len(line)-1]); err != nil {
		t.Errorf("%s: %v", line, err)
	}
}

// Whatever a driver hands over by mistake, no key, PIN, PIN block or card number gets into a line.
func TestNoSecretFits(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{
		"123", "1234", "123456", "6222020000000000018", "0123456789ABCDEF", "0123456789ABCDEFFEDCBA9876543210", "U1A2B3C4D5E6F708192A3B4C5D6E7F809",
		"S10096B0TN00S0000", "0412AC89ABCDEF67", "D5=2512", "abc\"def", "a\\b", "line\nfeed", "\x00\x01", "é", strings.Repeat("x", 41),
	} {
		e := exchange(1)
		e.Command, e.For, e.Result = secret, secret, secret
		line, unfitTexts := appendExchange(nil, &e)
		if unfitTexts != 3 || strings.Contains(string(line), `"`+secret+`"`) || strings.Count(string(line), unfit) != 3 {
			t.Errorf("%q: %d unfit, line %s", secret, unfitTexts, line)
		}
		if !json.Valid(line) {
			t.Errorf("%q makes a line that is no JSON: %s", secret, line)
		}
	}
	for _, good := range []string{"", "CA", "00", "NC", "#J", "no_answer", "translate_pin", "C_EncryptInit", "CKR_USER_ANOTHER_ALREADY_LOGGED_IN"} {
		e := exchange(1)
		e.Command, e.For, e.Result = good, good, good
		if line, unfitTexts := appendExchange(nil, &e); unfitTexts != 0 {
			t.Errorf("%q is refused: %s", good, line)
		}
	}
	e := exchange(1)
	e.Group, e.Member = "on line", "hsm\"1"
	if line, unfitTexts := appendExchange(nil, &e); unfitTexts != 2 || !json.Valid(line) {
		t.Errorf("%s", line)
	}
}

func TestDamagedLines(t *testing.T) {
	t.Parallel()
	e := exchange(7)
	good, _ := e.MarshalJSON()
	var p parser
	for _, change := range [][2]string{
		{`{"at"`, `{"when"`}, {"2026-03-01T", "2026-13-01T"}, {"08:00", "25:00"}, {"123Z", "123+00"}, {".00", ",00"}, {"mia4k2p39f2.7", "mia4k2p39f2.07"},
		{"posp-1.mia4k2p39f2.7", "7"}, {"posp-1.", ""}, {`"online"`, `""`}, {`"hsm1"`, `"hsm 1"`}, {`"channel":3`, `"channel":-3`}, {`"channel":3`, `"channel":`},
		{`"CA"`, `"CACA0"`}, {`"sent":96`, `"sent":096`}, {`"sent":96`, `"sent":1000000000`}, {`"took_us":812`, `"took_us":9223372036854776`},
		{`"received":27`, `"received": 27`}, {`"result":"00"`, `"result":"00","more":1`}, {`}`, ``}, {`}`, "}}"}, {`}`, "}\r"},
	} {
		line := strings.Replace(string(good), change[0], change[1], 1)
		if line == string(good) {
			t.Fatalf("%q is not in %s", change[0], good)
		}
		if got, _, err := p.parse([]byte(line)); err == nil {
			t.Errorf("%s is taken as %+v", line, got)
		}
	}
	gap, _ := Gap{Group: "online", From: day, To: day, Lost: 1, Why: Off}.MarshalJSON()
	for _, change := range [][2]string{{`"off"`, `"lunch"`}, {`"lost":1`, `"lost":18446744073709551616`}, {`"lost":1`, `"lost":+1`}, {`"from":"2`, `"from":"x`}} {
		if _, got, err := p.parse([]byte(strings.Replace(string(gap), change[0], change[1], 1))); err == nil {
			t.Errorf("%v is taken as %+v", change, got)
		}
	}
}

// FuzzParse: what is accepted is exactly what a writer would write, and JSON tools read the same.
func FuzzParse(f *testing.F) {
	e := exchange(1)
	line, _ := e.MarshalJSON()
	f.Add(line)
	e.Serial, e.Member, e.Result = Serial{}, "?", NoAnswer
	line, _ = e.MarshalJSON()
	f.Add(line)
	line, _ = Gap{Group: "online", From: day, To: day.Add(time.Hour), Lost: math.MaxUint64, Why: Overload}.MarshalJSON()
	f.Add(line)
	f.Add([]byte(`{"at":"2026-03-01T08:00:00.000000Z","gap":"off","group":"?"`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p parser
		e, g, err := p.parse(text)
		if err != nil {
			if e != (Exchange{}) || g != (Gap{}) {
				t.Fatalf("refused, and yet %+v %+v", e, g)
			}
			return
		}
		var again []byte
		if g.Why != "" {
			again = appendGap(nil, g)
		} else {
			again, _ = appendExchange(nil, &e)
		}
		if string(again) != string(text)+"\n" {
			t.Fatalf("\n%s is read and written as\n%s", text, again)
		}
		var fields struct {
			At     time.Time
			Serial string
			TookUS int64 `json:"took_us"`
			Lost   uint64
		}
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatalf("%s is no JSON: %v", text, err)
		}
		if fields.Serial != e.Serial.String() || fields.TookUS != e.Took.Microseconds() || fields.Lost != g.Lost || !fields.At.Equal(e.At.Add(0)) && g.Why == "" {
			t.Fatalf("%s: JSON says %+v, the parser %+v %+v", text, fields, e, g)
		}
	})
}

func TestSerials(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a, b := NewSerials("posp-1", now), NewSerials("posp/1 é", now)
	if a.Last() != 0 {
		t.Error(a.Last())
	}
	seen := map[Serial]bool{}
	for range 1000 {
		for _, s := range []Serial{a.Next(), b.Next()} {
			back, err := ParseSerial(s.String())
			if err != nil || back != s || seen[s] || s.IsZero() {
				t.Fatalf("%s: %v, %v", s, back, err)
			}
			seen[s] = true
		}
	}
	if a.Last() != 1000 || !strings.HasSuffix(a.Next().String(), ".1001") {
		t.Error(a.Last())
	}
	if got := (Serial{}).String(); got != "" {
		t.Errorf("no serial is %q", got)
	}
	for _, bad := range []string{"", "1", ".1", "a.1", "a.b.", "a.b.-1", "a.b.01", "a.b.1 ", "a b.c.1", "a..1", "posp-1.toolongforastart.1", strings.Repeat("i", 70) + ".b.1"} {
		if s, err := ParseSerial(bad); err == nil {
			t.Errorf("%q is taken as %v", bad, s)
		}
	}
	if s := NewSerials("", now).Next(); !strings.HasPrefix(s.String(), "-.") {
		t.Error(s)
	}
}
