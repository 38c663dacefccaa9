package bank

import (
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// issuerCodeSize is one half of field 44.
const issuerCodeSize = 11

// echoed are the request's fields that an answer repeats, dialect §5; echoedRefusal those after a format fault, §1.4.
var (
	echoed        = []int{2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49, 70}
	echoedRefusal = []int{7, 11, 32, 37, 41, 42}
)

// result is the decision on one message.
type result struct {
	outcome
	kind string // For the history, as note.
	note string // Names of fields, never their content.
}

// handle is the way of one message from frame to answer.
func (s *session) handle(data []byte) {
	now := s.bank.now()

	// Step 1: the MTI. Without one there is no answer to give, and an answer needs none.
	mti, err := parseMTI(data)
	if err != nil || !isRequest(mti) {
		s.bank.history.add(Entry{Time: now, Connection: s.name, MTI: mti, Note: "not a request, ignored"})
		s.log().Warn("bank simulator: message is not a request and is ignored")
		return
	}

	// Step 2: what is to go wrong with it.
	bad := s.bank.faults.take(mti)
	if bad.has(LoseRequest) {
		s.bank.history.add(Entry{Time: now, Connection: s.name, MTI: mti, Faults: bad.kinds})
		return
	}

	// Step 3: decode and decide.
	m := &s.request
	echo := echoed
	var res result
	if err := m.parse(data); err != nil {
		m.mti, echo = mti, echoedRefusal
		res = result{outcome: outcome{code: codeFormat}, note: err.Error()}
	} else {
		res = s.decide(m, data, bad.code, now)
		if res.code == codeFormat {
			echo = echoedRefusal
		}
	}

	// Step 4: the answer and the history. The history comes first: who has the answer finds the message there.
	entry := entryOf(m, res, now)
	entry.Connection, entry.Faults = s.name, bad.kinds
	frame, err := s.pack(m, echo, res, &bad, now)
	if err != nil {
		entry.Note = "no answer: " + err.Error()
		s.log().Error("bank simulator: answer cannot be packed", slog.Any("error", err))
	}
	s.bank.history.add(entry)

	// Step 5: the line.
	if err == nil && !s.deliver(mti, frame, &bad) {
		s.log().Warn("bank simulator: answer dropped, too many wait", slog.Int("limit", maxWaiting))
	}
}

// decide checks in the order MAC, type, sign-on, fields, and then does what is asked.
func (s *session) decide(m *message, data []byte, forced string, now time.Time) result {
	if !m.has(lastField) {
		return refusal(codeSystem, "MAC missing")
	}
	mac := decodeBlock(m.value[lastField])
	if !s.bank.zak.verify(data[:len(data)-macSize], mac[:]) {
		return refusal(codeSystem, "MAC wrong")
	}
	switch m.mti {
	case "0800":
		return s.network(m, forced)
	case "0400", "0401":
		if !s.signedOn.Load() {
			return refusal(codeUnsupported, "not signed on")
		}
		return s.reversal(m, forced, now)
	}
	k := kindOf(m)
	if !s.signedOn.Load() {
		return refusal(codeUnsupported, "not signed on")
	}
	if k == nil {
		return refusal(codeUnsupported, "not a transaction of this bank")
	}
	return s.financial(m, k, forced, now)
}

// financial is every row of the table of kinds.
func (s *session) financial(m *message, k *kind, forced string, now time.Time) result {
	if fault := faultyRequest(m, k.required()); fault != "" {
		return refusal(codeFormat, fault)
	}
	req := s.newRequest(m, now)
	req.mti, req.kind, req.forced = firstTry(m.mti), k, forced
	var fault string
	if req.of, fault = referenceOf(m, req.account); fault != "" {
		return refusal(codeFormat, fault)
	}
	switch {
	case k.of != nil && !k.told && !req.of.given && req.account != nil:
		return refusal(codeFormat, "fields 61 and 90, or 38: missing, no original is named")
	case k.does == actTell:
		req.amount = 0
	case k.does != actNote && req.amount == 0:
		return refusal(codeFormat, "field 4: amount is zero")
	}
	if req.account != nil {
		req.pin = req.account.judgePIN(s.bank.zpk, m.value[52])
	}
	out := s.bank.book.transact(req)
	s.bank.touch()
	note := ""
	switch {
	case out.duplicate:
	case out.code == codeSystem && req.pin == pinBroken:
		note = "field 52: not a format 0 block of this card under the zone PIN key"
	case out.code == codeNotFound:
		note = "the original is not in the book, or not in force"
	case out.code == codeOtherAmount:
		note = "field 4: does not fit the original"
	}
	return result{outcome: out, kind: k.name, note: note}
}

// reversal is 0400 and its repeat 0401.
func (s *session) reversal(m *message, forced string, now time.Time) result {
	if fault := faultyRequest(m, reversalRequired); fault != "" {
		return refusal(codeFormat, fault)
	}
	req := s.newRequest(m, now)
	original := m.value[90] // MTI 4, trace 6, date-time 10, acquirer 11, forwarder 11.
	req.mti = string(original[:4])
	if string(original[4:10]) != m.get(11) || string(original[20:31]) != string(req.key.acquirer[:]) {
		return refusal(codeFormat, "field 90: trace or acquirer is not that of fields 11 and 32")
	}
	if forced != "" {
		return refusal(forced, "")
	}
	out := s.bank.book.reverse(req)
	s.bank.touch()
	note := ""
	switch out.code {
	case codeFormat:
		note = "fields 2, 3, 4 or 90: not those of the original"
	case codeUnsupported:
		note = "advices, notices and refunds are not reversed"
	}
	return result{outcome: out, kind: tombstone.name, note: note}
}

// network is sign-on, sign-off and echo.
func (s *session) network(m *message, forced string) result {
	if missing := missingField(m, networkRequired); missing != 0 {
		return refusal(codeFormat, fmt.Sprintf("field %d: missing", missing))
	}
	if forced != "" {
		return refusal(forced, "")
	}
	switch m.get(70) {
	case "001":
		s.signedOn.Store(true)
	case "002":
		s.signedOn.Store(false)
	case "301":
	default:
		return refusal(codeUnsupported, "field 70: not a code of this bank")
	}
	return result{outcome: outcome{code: codeApproved}}
}

func (s *session) newRequest(m *message, now time.Time) request {
	req := request{
		content: s.bank.digest.content(m), account: s.bank.book.accounts[m.get(2)], masked: maskPAN(m.get(2)), merchant: m.get(42), now: now,
	}
	req.amount, _ = strconv.ParseInt(m.get(4), 10, 64) // Twelve digits, or absent and zero.
	acquirer := m.value[32]
	for i := range req.key.acquirer {
		req.key.acquirer[i] = '0'
	}
	copy(req.key.acquirer[len(req.key.acquirer)-len(acquirer):], acquirer)
	copy(req.key.rrn[:], m.value[37])
	copy(req.key.terminal[:], m.value[41])
	copy(req.key.trace[:], m.value[11])
	return req
}

// faultyRequest finds what makes a decoded financial message unusable; "" when nothing does.
func faultyRequest(m *message, required []int) string {
	if missing := missingField(m, required); missing != 0 {
		return fmt.Sprintf("field %d: missing", missing)
	}
	if m.get(49) != currency {
		return "field 49: not the currency of this bank"
	}
	if m.has(52) && (!m.has(26) || m.get(53) != "2600000000000000") {
		return "field 52: fields 26 and 53 do not say how the PIN block is made"
	}
	// The track was deciphered on its way here; if it is not this card's, the wrong key deciphered it.
	if pan := m.value[2]; m.has(35) {
		track := m.value[35]
		if len(track) <= len(pan) || string(track[:len(pan)]) != string(pan) || track[len(pan)] != '=' {
			return "field 35: not a track of the card of field 2"
		}
	}
	return ""
}

func missingField(m *message, required []int) int {
	for _, field := range required {
		if !m.has(field) {
			return field
		}
	}
	return 0
}

// pack makes the answer with the faults that change its content.
func (s *session) pack(m *message, echo []int, res result, bad *misdeeds, now time.Time) ([]byte, error) {
	a := &s.answer
	a.reset()
	a.mti = answerMTI(m.mti)
	for _, field := range echo {
		if m.has(field) {
			a.put(field, m.value[field])
		}
	}
	a.set(39, res.code)
	if m.mti[1] != '8' {
		if res.settled == "" {
			res.settled = settlementDate(now)
		}
		a.set(15, res.settled)
		if s.bank.issuerCode != "" {
			a.set(issuerField, fmt.Sprintf("%-*s%-*s", issuerCodeSize, s.bank.issuerCode, issuerCodeSize, m.get(32)))
		}
	}
	if res.auth != "" {
		a.set(38, res.auth)
	}
	if res.balance != "" {
		a.set(54, res.balance)
	}
	if bad.has(WrongTrace) && a.has(11) {
		a.put(11, plusOne(a.value[11]))
	}
	if bad.has(WrongAmount) && a.has(4) {
		a.put(4, plusOne(a.value[4]))
	}
	mac := s.bank.zak.sum
	if bad.has(WrongMAC) {
		mac = func(data []byte) [desBlock]byte {
			sum := s.bank.zak.sum(data)
			sum[0] ^= 0xFF
			return sum
		}
	}
	return a.pack(make([]byte, 0, 384), mac) // A usual answer fits; append grows for the others.
}

func refusal(code, note string) result { return result{outcome: outcome{code: code}, note: note} }

// isRequest: the third digit of an MTI is even in requests and advices, odd in answers, since an answer's
// MTI is the request's plus ten (dialect §5).
func isRequest(mti string) bool { return mti != "" && (mti[2]-'0')%2 == 0 }

// answerMTI is the request's plus ten; a repeat (last digit 1) is answered like the first.
func answerMTI(mti string) string { return mti[:2] + string(mti[2]+1) + "0" }

// plusOne counts up decimal digits; the last number rolls over to zeros.
func plusOne(value []byte) []byte {
	out := append([]byte{}, value...)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i]++; out[i] <= '9' {
			break
		}
		out[i] = '0'
	}
	return out
}

func entryOf(m *message, res result, now time.Time) Entry {
	amount, _ := strconv.ParseInt(m.get(4), 10, 64) // Digits, or absent and zero.
	e := Entry{
		Time: now, MTI: m.mti, Kind: res.kind, Processing: m.get(3), Network: m.get(70), Trace: m.get(11), RRN: m.get(37), Terminal: m.get(41),
		Amount: amount, ResponseCode: res.code, Duplicate: res.duplicate, Booked: res.moved, Note: res.note,
	}
	if m.has(2) {
		e.PAN = maskPAN(m.get(2))
	}
	return e
}
