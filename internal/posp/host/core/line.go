package core

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/link"
	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/core"
)

var codec = core.Codec()

// key finds the request of an answer: the answer's MTI and fields 7, 11, 32, 37, 41 (docs/dialect-core.md §5).
type key [6]string

// keyOf is the key of an answer, or of the answer that a request will get.
func keyOf(mti string, m *iso.Message) key {
	return key{mti, m.Text(iso.TransmissionTime), m.Text(iso.Trace), m.Text(iso.Acquirer), m.Text(iso.Reference), m.Text(iso.Terminal)}
}

// keyOfFrame reads the key of an answer. An answer that cannot be decoded counts as no answer (docs/dialect-core.md §1).
func keyOfFrame(frame []byte) (key, error) {
	m, err := codec.Decode(frame)
	if err != nil {
		return key{}, err
	}
	return keyOf(m.MTI(), m), nil
}

// line is the connection, or the one session that is being signed on.
type line interface {
	Exchange(ctx context.Context, k key, frame []byte) ([]byte, error)
}

// echoes are the fields in which an answer must agree with its request. Fields 12 and 13 are left out: a host may tell its own
// local time there.
var echoes = []int{
	iso.PAN, iso.ProcessingCode, iso.Amount, iso.TransmissionTime, iso.Trace, iso.Acquirer, iso.Reference, iso.Terminal, iso.Merchant,
	iso.Currency, iso.NetworkCode,
}

// ask sends one message with its MAC and returns the answer, checked as far as every kind of message needs it. With an error the
// outcome says whether the bank can have acted on the message.
func (h *Host) ask(ctx context.Context, on line, m *iso.Message) (*iso.Message, txn.Outcome, error) {
	frame, mab, err := core.EncodeForMAC(m)
	if err != nil {
		return nil, txn.NotSent, fmt.Errorf("encode %s: %w", m.MTI(), err)
	}
	mac, err := withZAK(h, mab, func(in command.MACInput) ([]byte, error) { return h.hsm.MAC(ctx, in) })
	if err != nil {
		return nil, txn.NotSent, fmt.Errorf("make the MAC of %s: %w", m.MTI(), err)
	}
	if err := core.SetMAC(frame, mac); err != nil {
		return nil, txn.NotSent, fmt.Errorf("make the MAC of %s: %w", m.MTI(), err)
	}
	want, ok := iso.AnswerMTI(m.MTI())
	if !ok {
		return nil, txn.NotSent, fmt.Errorf("message type %s is not a request", m.MTI())
	}
	answer, err := on.Exchange(ctx, keyOf(want, m), frame)
	if err != nil {
		if link.OutcomeOf(err) == link.NotSent {
			return nil, txn.NotSent, err
		}
		return nil, txn.Unknown, err
	}
	got, why, err := h.check(ctx, m, answer)
	if err != nil {
		h.metrics.refused[why].Inc()
		h.log.ErrorContext(ctx, "answer is not used", "mti", m.MTI(), "trace", m.Text(iso.Trace), "reason", err)
		return nil, txn.Unknown, err
	}
	return got, txn.Answered, nil
}

// withZAK works with the zone MAC key. While keys move between LMK domains its twin in another domain serves too: it is asked when the
// preferred domain has no device, and the bank cannot see the difference.
func withZAK[T any](h *Host, mab []byte, work func(command.MACInput) (T, error)) (T, error) {
	out, err := work(command.MACInput{Key: h.cfg.ZAK, Algorithm: command.MACAlg3, Data: mab})
	for _, twin := range h.cfg.ZAKTwins {
		if err == nil || command.ClassOf(err) != command.Unavailable {
			break
		}
		out, err = work(command.MACInput{Key: twin, Algorithm: command.MACAlg3, Data: mab})
	}
	return out, err
}

// check decodes an answer, has its MAC verified and compares it with the request. A refusal has a reason for the metrics.
func (h *Host) check(ctx context.Context, request *iso.Message, frame []byte) (*iso.Message, refusal, error) {
	answer, err := codec.Decode(frame)
	if err != nil {
		return nil, badFormat, fmt.Errorf("answer cannot be decoded: %w", err)
	}
	mac, ok := answer.Bytes(iso.MAC128)
	if !ok {
		return nil, badMAC, fmt.Errorf("%w: field 128 is missing", host.ErrMAC)
	}
	mab, err := core.MAB(frame)
	if err != nil {
		return nil, badMAC, fmt.Errorf("%w: %w", host.ErrMAC, err)
	}
	// The answer is here: its check has time of its own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerCheckTimeout)
	defer cancel()
	right, err := withZAK(h, mab, func(in command.MACInput) (bool, error) { return h.hsm.VerifyMAC(ctx, in, mac) })
	if err != nil {
		return nil, notVerified, fmt.Errorf("MAC of the answer cannot be verified: %w", err)
	}
	if !right {
		return nil, badMAC, host.ErrMAC
	}
	code, ok := answer.Get(iso.ResponseCode)
	if !ok {
		return nil, badFormat, errors.New("answer has no response code")
	}
	if err := agrees(request, answer, txn.Reply{Code: code}.Approved()); err != nil {
		return nil, mismatch, err
	}
	return answer, "", nil
}

// agrees says that an answer speaks of the request. After a refusal the bank echoes only what it could decode
// (docs/dialect-core.md §1), an approval must echo all.
func agrees(request, answer *iso.Message, all bool) error {
	for _, field := range echoes {
		want, asked := request.Get(field)
		got, told := answer.Get(field)
		switch {
		case !asked && !told, asked && !told && !all:
		case asked != told, subtle.ConstantTimeCompare([]byte(want), []byte(got)) != 1:
			return fmt.Errorf("answer does not agree with the request in field %d (%s)", field, iso.Name(field))
		}
	}
	return nil
}
