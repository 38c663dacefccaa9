package pos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
)

// SignOn fetches work keys from the host and writes them into the card (facts/unionpay.md §3, sign-on). Only when the card
// has taken the whole set is the terminal signed on; the error names the key whose check value the card refused.
func (t *Terminal) SignOn(ctx context.Context) Result {
	return t.run(ctx, "signon", t.signOn)
}

func (t *Terminal) signOn(ctx context.Context, r *Result) {
	request := t.message("0800")
	request.fields[60] = "00" + t.state.Batch + t.cfg.Scheme
	// "Sequence No", 2-digit length, 4 digits maker and certificate, serial.
	request.fields[62] = fmt.Sprintf("Sequence No%02d%s", len(t.cfg.Serial), t.cfg.Serial)
	request.fields[63] = t.cfg.Operator
	answer, ok := t.manage(ctx, r, request)
	if !ok {
		return
	}
	// From here on the host has made new keys: the old ones are no longer used, whatever the card says to the new.
	t.state.SignedOn = false
	set, err := splitKeys([]byte(answer.fields[62]), t.cfg.Scheme)
	if err != nil {
		r.fail(fmt.Errorf("sign-on answer: %w", err))
		return
	}
	if err := t.reader.loadKeys(t.cfg.TMKID, set); err != nil {
		r.fail(err)
		r.did("did not sign on: the keys of the answer are not in use")
		return
	}
	t.state.SignedOn, t.state.Scheme = true, t.cfg.Scheme
	for _, key := range set {
		r.did("wrote %s into the card, check value right", keyNames[key.record])
	}
	if f60 := answer.fields[60]; len(f60) >= 8 && f60[2:8] != t.state.Batch {
		r.did("adopted batch %s", f60[2:8])
		t.state.Batch = f60[2:8]
	}
}

// splitKeys takes F62 of a sign-on answer apart (facts/unionpay.md §3, keys in field 62): PIN key, MAC key and with schemes
// 004 to 006 the track key, each cipher and 4 bytes check value, 3 with scheme 005.
func splitKeys(f62 []byte, scheme string) ([]keyRecord, error) {
	const kcv, shortKCV, single, double = 4, 3, 8, 16
	slot, records := double+kcv, []byte{recordPIN, recordMAC}
	switch scheme {
	case "001":
		slot = single + kcv
	case "004", "006":
		records = append(records, recordTrack)
	case "005": // check values of three bytes
		slot, records = double+shortKCV, append(records, recordTrack)
	}
	if len(f62) != slot*len(records) {
		return nil, fmt.Errorf("field 62 has %d bytes, scheme %s needs %d", len(f62), scheme, slot*len(records))
	}
	set := make([]keyRecord, 0, len(records))
	for i, record := range records {
		content := bytes.Clone(f62[i*slot : (i+1)*slot])
		// A single-length MAC key sits in the double-length slot with 8 plain zero bytes behind it.
		if record == recordMAC && !isSM4(scheme) && slot == double+kcv && bytes.Equal(content[single:double], make([]byte, single)) {
			content = append(content[:single], content[double:]...)
		}
		set = append(set, keyRecord{record: record, content: content})
	}
	return set, nil
}

// manage sends a management message and checks the answer: MTI and trace. Such messages carry no MAC, but for
// the types that the model names.
func (t *Terminal) manage(ctx context.Context, r *Result, request packet) (packet, bool) {
	trace, err := t.nextTrace()
	if err != nil {
		r.fail(err)
		return packet{}, false
	}
	request.fields[11] = trace
	signed := slices.Contains(t.cfg.Model.MACOn, request.mti)
	if signed {
		if err := t.sign(request); err != nil {
			r.fail(err)
			return packet{}, false
		}
	}
	r.Trace, r.Request = trace, request.dump()
	answer, err := t.exchange(ctx, request)
	if err != nil {
		r.fail(err)
		return packet{}, false
	}
	r.answered(answer.packet)
	if want := answerMTI(request.mti); answer.packet.mti != want {
		r.fail(fmt.Errorf("the answer is a %s, not a %s", answer.packet.mti, want))
		return packet{}, false
	}
	if answer.packet.fields[39] == "" {
		r.fail(errors.New("the answer has no response code"))
		return packet{}, false
	}
	if mac := answer.packet.fields[64]; signed && (mac != "" || success(answer.packet.fields[39])) {
		if err := t.reader.verify(answer.mab, mac); err != nil {
			r.fail(fmt.Errorf("the answer is not authentic: %w", err))
			return packet{}, false
		}
	}
	t.obey(r, answer.packet)
	return answer.packet, r.Outcome == OutcomeApproved
}

// obey does what an answer asks of the terminal beside its result.
func (t *Terminal) obey(r *Result, answer packet) {
	if code := answer.fields[39]; signOnAgain(code) && t.state.SignedOn {
		t.state.SignedOn = false
		r.did("signed off by code %s: sign on again", code)
	}
	if answer.requirement() == '3' && t.state.SignedOn {
		t.state.SignedOn = false
		r.did("the host asks for a new sign-on")
	}
}

// answerMTI is the request's plus 10 (facts/unionpay.md §3).
func answerMTI(mti string) string { return mti[:2] + string(mti[2]+1) + mti[3:] }
