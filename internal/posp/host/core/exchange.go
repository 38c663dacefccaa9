package core

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/iso"
)

const (
	pinBlockLen     = 8                  // Field 52: ISO 9564-1 format 0.
	securityControl = "2600000000000000" // Field 53: PIN block with PAN, double-length 3DES (docs/dialect-core.md §3).
	defaultCurrency = "156"              // Field 49: CNY; a balance inquiry may come without one.
	defaultPINLen   = "12"               // Field 26: the longest PIN of ISO 9564-1.

	layoutTransmission = "0102150405" // Field 7, MMDDhhmmss, UTC.
	layoutTime         = "150405"     // Field 12, hhmmss.
	layoutDate         = "0102"       // Field 13, MMDD.
)

// Exchange implements host.Host for every row of the table in docs/dialect-core.md §5. What tells of something that has happened already is
// not answered by 96 (§5.11): the bank could not work, and the message stays owed.
func (h *Host) Exchange(ctx context.Context, req host.Request) (result host.Result) {
	defer h.metrics.observe(string(req.Kind), time.Now(), &result)
	if err := h.enter(); err != nil {
		return host.Result{Outcome: txn.NotSent, Err: err}
	}
	defer h.leave()
	m, err := h.financial(req)
	if err != nil {
		return host.Result{Outcome: txn.NotSent, Err: err}
	}
	answer, outcome, err := h.ask(ctx, h.client, m)
	if err != nil {
		return host.Result{Outcome: outcome, Err: err}
	}
	code, known := h.terminalCode(answer.Text(iso.ResponseCode))
	if !known {
		h.metrics.refused[unknownCode].Inc()
		h.log.ErrorContext(ctx, "response code is not known, taken as no answer", "trace", req.Trace, "code", answer.Text(iso.ResponseCode))
		return host.Result{Outcome: txn.Unknown, Err: fmt.Errorf("response code %q is not known", answer.Text(iso.ResponseCode))}
	}
	if code == codeSystem && req.Kind.Doubt() == txn.Deliver {
		return host.Result{Outcome: txn.Unknown, Err: fmt.Errorf("refused with response code %q: the bank could not work; the message stays owed", code)}
	}
	return host.Result{Outcome: txn.Answered, Reply: h.reply(code, answer)}
}

// financial makes the message.
func (h *Host) financial(req host.Request) (*iso.Message, error) {
	f, err := formOf(req)
	if err != nil {
		return nil, err
	}
	m := iso.New(f.mtiOf(req.Try))
	amount, err := amountOf(req)
	if err != nil {
		return nil, err
	}
	setIf(m, iso.Amount, amount)
	if err := h.name(m, f, req); err != nil {
		return nil, err
	}
	setIf(m, iso.Private60, f.code)
	if req.PAN.IsZero() || req.Trace == "" || req.RRN == "" || req.SentAt.IsZero() {
		return nil, errors.New("card number, trace, reference or time is missing")
	}
	m.Set(iso.PAN, req.PAN.Reveal())
	m.Set(iso.ProcessingCode, f.processing)
	h.stamp(m, req.SentAt, req.SentAt)
	m.Set(iso.Trace, req.Trace)
	setIf(m, iso.Expiry, req.Expiry)
	m.Set(iso.EntryMode, req.EntryMode)
	setIf(m, iso.CardSequence, req.CardSeq)
	m.Set(iso.ConditionCode, f.condition)
	m.Set(iso.Acquirer, h.cfg.AcquirerID)
	setTrack(m, iso.Track2, req.Track2.Reveal())
	setTrack(m, iso.Track3, req.Track3.Reveal())
	m.Set(iso.Reference, req.RRN)
	m.Set(iso.Terminal, req.Terminal)
	m.Set(iso.Merchant, req.Merchant)
	m.Set(iso.Currency, orElse(req.Currency, defaultCurrency))
	if len(req.ICData) > 0 {
		m.SetBytes(iso.ChipData, req.ICData)
	}
	if !req.PINBlock.IsZero() {
		if req.PINBlock.Len() != pinBlockLen {
			return nil, fmt.Errorf("PIN block has %d bytes, want %d", req.PINBlock.Len(), pinBlockLen)
		}
		m.Set(iso.PINCaptureCode, orElse(req.PINLength, defaultPINLen))
		m.SetBytes(iso.PINBlock, req.PINBlock.Reveal())
		m.Set(iso.SecurityControl, securityControl)
	}
	return m, nil
}

// stamp sets field 7 to now and fields 12 and 13 to the local time of the transaction.
func (h *Host) stamp(m *iso.Message, now, transaction time.Time) {
	m.Set(iso.TransmissionTime, now.UTC().Format(layoutTransmission))
	local := transaction.In(h.cfg.Location)
	m.Set(iso.LocalTime, local.Format(layoutTime))
	m.Set(iso.LocalDate, local.Format(layoutDate))
}

// reply maps an answer for the terminal. An approval without field 38 stays an approval: the money has moved.
func (h *Host) reply(code string, answer *iso.Message) txn.Reply {
	r := txn.Reply{
		Code: code, SettlementDate: answer.Text(iso.SettlementDate), AcquirerID: answer.Text(iso.Acquirer), RRN: answer.Text(iso.Reference),
		Institutions: answer.Text(iso.AdditionalResponse), Balance: answer.Text(iso.Balance),
		HostTime: h.hostTime(answer.Text(iso.LocalDate), answer.Text(iso.LocalTime)),
	}
	if r.Approved() {
		r.AuthCode = answer.Text(iso.AuthCode)
	}
	return r
}

// hostTime reads fields 13 and 12, which have no year: the one that puts the time nearest to now. Without them it is now.
func (h *Host) hostTime(date, clock string) time.Time {
	now := h.cfg.Now().In(h.cfg.Location)
	best := time.Time{}
	for year := now.Year() - 1; year <= now.Year()+1; year++ {
		t, err := time.ParseInLocation("2006"+layoutDate+layoutTime, fmt.Sprintf("%04d", year)+date+clock, h.cfg.Location)
		if err == nil && (best.IsZero() || t.Sub(now).Abs() < best.Sub(now).Abs()) {
			best = t
		}
	}
	if best.IsZero() {
		return now
	}
	return best
}

func setIf(m *iso.Message, field int, value string) {
	if value != "" {
		m.Set(field, value)
	}
}

// setTrack writes a clear track; the separator is = on this line (docs/dialect-core.md §3), D on some terminals'.
func setTrack(m *iso.Message, field int, track []byte) {
	setIf(m, field, strings.ReplaceAll(string(track), "D", "="))
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
