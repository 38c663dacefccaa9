package main

import (
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmlist"
)

// TestPrintable: what others wrote moves no cursor, colours nothing and forges no line.
func TestPrintable(t *testing.T) {
	t.Parallel()
	const bad = "one\n2026-01-01 00:00:00.000  after   hsm2\x1b[31m\u202e 双人　复核"
	var out strings.Builder
	table(&out, false, texts("REASON", "BY"), [][]cell{{text(bad), hued(bad, red)}})
	c := &hsmClient{output: "table"}
	if err := c.printSwitch(&out, hsmlist.Entry{Switch: member.Switch{What: "state", By: "li", Reason: bad}}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.ContainsAny(got, "\x1b\u202e") || strings.Count(got, "\n") != 3 || strings.Count(got, "双人　复核") != 3 {
		t.Errorf("%q", got)
	}
}
