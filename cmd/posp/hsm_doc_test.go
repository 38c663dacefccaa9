package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHSMPage: docs/hsm-operation.md shows commands that exist, with flags that they have, and leaves none out.
func TestHSMPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/hsm-operation.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^(?:\$ )?posp (hsm .*)$`).FindAllStringSubmatch(string(page), -1) {
		text, _, _ := strings.Cut(line[1], "   #")
		args := words(text)
		found, rest, err := command().Find(args)
		if err != nil || found.Name() == "hsm" {
			t.Errorf("posp %s: %v", text, err)
			continue
		}
		if err := found.ParseFlags(rest); err != nil {
			t.Errorf("posp %s: %v", text, err)
		}
		if err := found.ValidateArgs(found.Flags().Args()); err != nil && !strings.HasPrefix(err.Error(), "requires") {
			t.Errorf("posp %s: %v", text, err)
		}
		for c := found; c != nil; c = c.Parent() {
			shown[c.CommandPath()] = true
		}
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		// What rewrap, drill and token do is on pages of their own.
		if path := c.CommandPath(); path == "posp hsm rewrap" || path == "posp hsm drill" || path == "posp hsm token" {
			return
		}
		if len(c.Commands()) == 0 && !shown[c.CommandPath()] {
			t.Errorf("the page does not show %s", c.CommandPath())
		}
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(hsmCommandIn(t))
	if len(shown) < 20 {
		t.Errorf("only %d commands were found on the page", len(shown))
	}
}

func hsmCommandIn(t *testing.T) *cobra.Command {
	t.Helper()
	c, _, err := command().Find([]string{"hsm"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// words splits a line as a shell does, quotes included.
func words(line string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(line, -1) {
		out = append(out, strings.Trim(m, `"`))
	}
	return out
}

// TestHSMHelp: every command below "posp hsm" says what it does, and those that take arguments or change something show an example.
func TestHSMHelp(t *testing.T) {
	t.Parallel()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s has no short help", c.CommandPath())
		}
		if strings.Contains(c.Use, " ") && c.Example == "" && c.Parent().Example == "" && c.Parent().Parent().Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(hsmCommandIn(t))
}
