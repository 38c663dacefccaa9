package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/issuer"
)

const (
	psamDigits = 20
	// maxCount bounds one command; a larger batch is several commands, each of which can be looked at.
	maxCount = 10_000
	// barWidth is the width of the progress bar in characters.
	barWidth = 30
)

func issueCommand(o *options) *cobra.Command {
	var psam, order string
	var count int
	c := &cobra.Command{
		Use: "issue", Short: "Issue one card, or several with consecutive numbers", Args: cobra.NoArgs,
		Long:    "Issue one card, or several with consecutive numbers. A card that failed can be issued again: what is done stays done.",
		Example: "  issuer card issue --psam 60000000000000000001\n  issuer card issue --psam 60000000000000000001 --count 20 --output json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			numbers, err := sequence(psam, count)
			if err != nil {
				return err
			}
			return o.issue(cmd, numbers, order)
		},
	}
	c.Flags().StringVar(&psam, "psam", "", "PSAM number of the first card, 20 digits")
	c.Flags().IntVar(&count, "count", 1, "how many cards with consecutive numbers")
	c.Flags().StringVar(&order, "order", "", "number of the order to use; without it an open one that covers the card")
	_ = c.MarkFlagRequired("psam") // fails only for a flag that does not exist
	return c
}

// sequence lists the numbers; one that would run over 20 digits is refused.
func sequence(first string, count int) ([]string, error) {
	if len(first) != psamDigits || strings.Trim(first, "0123456789") != "" {
		return nil, errors.New("--psam must have 20 digits, for example 60000000000000000001")
	}
	if count < 1 || count > maxCount {
		return nil, fmt.Errorf("--count must be 1 to %d", maxCount)
	}
	numbers := []string{first}
	digits := []byte(first)
	for len(numbers) < count {
		i := len(digits) - 1
		for ; i >= 0 && digits[i] == '9'; i-- {
			digits[i] = '0'
		}
		if i < 0 {
			return nil, errors.New("--count runs beyond 20 digits")
		}
		digits[i]++
		numbers = append(numbers, string(digits))
	}
	return numbers, nil
}

// issue runs the cards one after another and stops at the first that fails, because the next would most likely fail too.
func (o *options) issue(cmd *cobra.Command, numbers []string, order string) error {
	var done []issuer.Issued
	bar := progress{out: cmd.ErrOrStderr(), total: len(numbers), shown: isTerminal(cmd.ErrOrStderr())}
	var failure error
	for i, psam := range numbers {
		bar.show(i, psam)
		body := map[string]string{"psam_no": psam}
		if order != "" {
			body["order_id"] = order
		}
		var one issuer.Issued
		if failure = o.call(cmd.Context(), http.MethodPost, "/v1/cards", rand.Text(), body, &one); failure != nil {
			failure = fmt.Errorf("card %s: %w", psam, failure)
			break
		}
		done = append(done, one)
	}
	bar.end(len(done))
	rows := make([][]string, 0, len(done))
	for _, d := range done {
		rows = append(rows, []string{d.PSAM, d.State, string(d.KCV), d.Run})
	}
	if len(done) == 0 && failure != nil {
		return failure
	}
	if err := o.print(cmd.OutOrStdout(), done, []string{"PSAM NUMBER", "STATE", "KCV", "RUN"}, rows); err != nil {
		return errors.Join(failure, err)
	}
	if failure != nil {
		return fmt.Errorf("%d of %d cards issued; %w", len(done), len(numbers), failure)
	}
	return nil
}

func showCommand(o *options) *cobra.Command {
	var psam string
	c := &cobra.Command{
		Use: "show", Short: "Show the keys of a card, by check value, and its runs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := sequence(psam, 1); err != nil {
				return err
			}
			var card struct {
				PSAM string `json:"psam_no"`
				Keys []struct {
					Name      string `json:"name"`
					Usage     string `json:"usage"`
					Algorithm string `json:"algorithm"`
					Version   int    `json:"version"`
					KCV       string `json:"kcv"`
					State     string `json:"state"`
				} `json:"keys"`
				Runs []issuer.Run `json:"runs"`
			}
			if err := o.call(cmd.Context(), http.MethodGet, "/v1/cards/"+psam, "", nil, &card); err != nil {
				return err
			}
			if o.output == formatJSON {
				return o.print(cmd.OutOrStdout(), card, nil, nil)
			}
			var rows [][]string
			for _, k := range card.Keys {
				rows = append(rows, []string{k.Name, k.Usage, k.Algorithm, strconv.Itoa(k.Version), k.KCV, k.State})
			}
			if err := o.print(cmd.OutOrStdout(), nil, []string{"KEY", "USAGE", "ALGORITHM", "VERSION", "KCV", "STATE"}, rows); err != nil {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout()); err != nil {
				return err
			}
			return o.printRuns(cmd.OutOrStdout(), card.Runs)
		},
	}
	c.Flags().StringVar(&psam, "psam", "", "PSAM number, 20 digits")
	_ = c.MarkFlagRequired("psam") // fails only for a flag that does not exist
	return c
}

// progress is a bar on a terminal, and nothing elsewhere.
type progress struct {
	out   io.Writer
	total int
	shown bool
}

// show draws the bar for the state "done cards are issued, this one is under way".
func (p progress) show(done int, psam string) {
	if p.shown {
		full := barWidth * done / p.total
		_, _ = fmt.Fprintf(p.out, "\r[%s%s] %d/%d  card %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), done, p.total, psam)
	}
}

// end draws the last state and leaves the line.
func (p progress) end(done int) {
	if p.shown {
		p.show(done, strings.Repeat(" ", psamDigits))
		_, _ = fmt.Fprintln(p.out)
	}
}

// isTerminal says that a person is watching.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
