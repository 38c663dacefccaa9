package poscmd

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/keyward/keyward/sim/pos"
)

// outcomes is what stands at the top of a table.
var outcomes = map[pos.Outcome]string{
	pos.OutcomeApproved: "APPROVED", pos.OutcomeDeclined: "DECLINED", pos.OutcomeFailed: "NOT DONE", pos.OutcomeInDoubt: "IN DOUBT",
}

// printTable writes a result for people: what came of it, the facts, what the terminal did, and the masked messages.
func printTable(out io.Writer, r pos.Result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(label, value string) {
		if strings.TrimSpace(value) != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", label, value)
		}
	}
	row("terminal "+r.Terminal, r.Command+": "+outcomes[r.Outcome])
	row("answer", strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Code, r.Meaning, r.MeaningZH)))
	row("card", r.PAN)
	if r.AmountFen > 0 {
		row("amount", yuan(r.AmountFen))
	}
	if r.BalanceFen != nil {
		row("balance", yuan(*r.BalanceFen))
	}
	row("trace", r.Trace)
	row("batch", r.Batch)
	row("reference", r.RRN)
	row("authorisation", r.AuthCode)
	for _, action := range r.Actions {
		row("terminal did", action)
	}
	if r.PendingReversal {
		row("open", "a reversal waits; it goes out before the next transaction, or now by `pos reversal`")
	}
	if r.Stored > 0 {
		row("stored", fmt.Sprintf("%d messages wait for an answer; they go out before the next transaction, or now by `pos deliver`", r.Stored))
	}
	row("problem", r.Error)
	row("took", fmt.Sprintf("%d ms", r.DurationMS))
	printDump(w, "sent", r.Request)
	printDump(w, "received", r.Answer)
	return w.Flush()
}

func printDump(w io.Writer, label string, d *pos.Dump) {
	if d == nil {
		return
	}
	for i, line := range append(d.Fields, d.Raw) {
		if i > 0 {
			label = ""
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\n", label, line)
	}
}

// yuan writes fen with two decimals.
func yuan(fen int64) string {
	sign := ""
	if fen < 0 {
		sign, fen = "-", -fen
	}
	return fmt.Sprintf("%s%d.%02d", sign, fen/100, fen%100)
}
