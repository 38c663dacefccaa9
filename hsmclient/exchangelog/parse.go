package exchangelog

import (
	"bytes"
	"errors"
	"time"
)

var errDamaged = errors.New("not a line of the journal")

// maxWords bounds how many different texts a parser remembers: names of members and codes are few, serials of processes too.
const maxWords = 1024

// parser reads lines. It remembers short texts, so that a million lines of ten members cost ten strings.
type parser struct {
	rest  []byte
	bad   bool
	words map[string]string
}

// parse reads one line without its line feed. It accepts exactly what appendExchange and appendGap write. Only one of the results is set.
func (p *parser) parse(line []byte) (e Exchange, g Gap, err error) {
	p.rest, p.bad = line, false
	p.literal(`{"at":"`)
	at := p.time()
	if bytes.HasPrefix(p.rest, []byte(`,"gap"`)) {
		g = p.gap(at)
	} else {
		e = p.exchange(at)
	}
	if p.bad || len(p.rest) != 0 {
		return Exchange{}, Gap{}, errDamaged
	}
	return e, g, nil
}

func (p *parser) exchange(at time.Time) (e Exchange) {
	e.At = at
	p.literal(`,"serial":"`)
	e.Serial = p.serial()
	p.literal(`,"group":"`)
	e.Group = p.name()
	p.literal(`,"member":"`)
	e.Member = p.name()
	p.literal(`,"channel":`)
	e.Channel = int(p.number(maxNumber))
	p.literal(`,"command":"`)
	e.Command = p.code()
	p.literal(`,"for":"`)
	e.For = p.code()
	p.literal(`,"sent":`)
	e.Sent = int(p.number(maxNumber))
	p.literal(`,"received":`)
	e.Received = int(p.number(maxNumber))
	p.literal(`,"took_us":`)
	e.Took = time.Duration(p.number(uint64(maxMicros))) * time.Microsecond
	p.literal(`,"result":"`)
	e.Result = p.code()
	p.literal(`}`)
	return e
}

func (p *parser) gap(to time.Time) (g Gap) {
	g.To = to
	p.literal(`,"gap":"`)
	g.Why = Reason(p.code())
	known := false
	for _, r := range reasons {
		known = known || r == g.Why
	}
	p.bad = p.bad || !known
	p.literal(`,"group":"`)
	g.Group = p.name()
	p.literal(`,"from":"`)
	g.From = p.time()
	p.literal(`,"lost":`)
	g.Lost = p.number(1<<64 - 1)
	p.literal(`}`)
	return g
}

func (p *parser) literal(text string) {
	if rest, ok := bytes.CutPrefix(p.rest, []byte(text)); ok {
		p.rest = rest
		return
	}
	p.bad = true
}

// text gives what stands before the next quotation mark and takes that too.
func (p *parser) text() []byte {
	text, rest, ok := bytes.Cut(p.rest, []byte{'"'})
	if !ok || p.bad {
		p.bad = true
		return nil
	}
	p.rest = rest
	return text
}

func (p *parser) time() time.Time {
	text := p.text()
	if len(text) != len(timeLayout) || text[len(text)-1] != 'Z' || text[len("2006-01-02T15:04:05")] != '.' {
		p.bad = true
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, string(text))
	p.bad = p.bad || err != nil
	return t
}

func (p *parser) serial() Serial {
	text := p.text()
	if p.bad || len(text) == 0 {
		return Serial{}
	}
	dot := bytes.LastIndexByte(text, '.')
	if dot < 0 {
		p.bad = true
		return Serial{}
	}
	s, err := ParseSerial(string(text))
	if err != nil {
		p.bad = true
		return Serial{}
	}
	s.origin = p.keep(text[:dot])
	return s
}

func (p *parser) name() string {
	text := p.text()
	if string(text) != unfit && !isName(text, maxName) {
		p.bad = true
		return ""
	}
	return p.keep(text)
}

func (p *parser) code() string {
	text := p.text()
	if !isCode(text) {
		p.bad = true
		return ""
	}
	return p.keep(text)
}

// number reads digits as strconv writes them.
func (p *parser) number(limit uint64) uint64 {
	n := 0
	for n < len(p.rest) && p.rest[n] >= '0' && p.rest[n] <= '9' {
		n++
	}
	v, ok := parseCount(string(p.rest[:n]))
	if !ok || v > limit {
		p.bad = true
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

// keep gives a string that equals text, the same one each time.
func (p *parser) keep(text []byte) string {
	if s, ok := p.words[string(text)]; ok {
		return s
	}
	s := string(text)
	if p.words == nil {
		p.words = make(map[string]string)
	}
	if len(p.words) < maxWords {
		p.words[s] = s
	}
	return s
}
