package main

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/audit"
)

func auditCommand(c *client) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "The audit chain", Args: cobra.NoArgs, RunE: needsCommand}
	cmd.AddCommand(auditVerify(c))
	return cmd
}

// auditVerify computes every hash here: neither posv nor the database is believed.
func auditVerify(c *client) *cobra.Command {
	var noted string
	cmd := &cobra.Command{
		Use: "verify", Short: "Check the whole chain, record by record", Args: cobra.NoArgs,
		Long: "Reads every audit record and computes the chain anew. Prints the head: note it outside of the database, and give it as\n" +
			"--head NUMBER:HASH to a later run, which then also finds a chain that was rewritten as a whole.",
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			want, err := parseHead(noted)
			if err != nil {
				return err
			}
			var head audit.Head // before the records: what is written meanwhile is no difference
			if err := c.call(cmd.Context(), http.MethodGet, "/v1/audit/head", nil, &head); err != nil {
				return err
			}
			var v audit.Verifier
			query := url.Values{"limit": {strconv.Itoa(pageLimit)}}
			for more := true; more; {
				var page struct {
					Items []audit.Record `json:"items"`
					Next  string         `json:"next"`
				}
				if err := c.call(cmd.Context(), http.MethodGet, "/v1/audit?"+query.Encode(), nil, &page); err != nil {
					return err
				}
				for _, r := range page.Items {
					if err := v.Add(r); err != nil {
						return err
					}
					if r.Seq == want.Seq && string(r.Hash) != string(want.Hash) {
						return &audit.BrokenError{Seq: r.Seq, Reason: "it is not the one that was noted"}
					}
				}
				more = page.Next != ""
				query.Set("after", page.Next)
			}
			if err := v.End(head); err != nil {
				return err
			}
			if want.Seq > v.Head().Seq { // cut behind the noted head, and the database's own head with it
				return v.End(want)
			}
			got := v.Head()
			text := fmt.Sprintf("%d:%s", got.Seq, hex.EncodeToString(got.Hash))
			return c.show(cmd.OutOrStdout(), map[string]any{"verified": true, "records": got.Seq, "head": text}, nil,
				[][]string{{fmt.Sprintf("The chain of %d records is whole. Head:", got.Seq)}, {text}})
		}),
	}
	cmd.Flags().StringVar(&noted, "head", "", "head that was noted before, NUMBER:HASH")
	return cmd
}

// parseHead reads what auditVerify printed; empty gives no head.
func parseHead(text string) (audit.Head, error) {
	if text == "" {
		return audit.Head{}, nil
	}
	wrong := &usageError{"--head must be NUMBER:HASH as printed by an earlier run"}
	for i := range len(text) {
		if text[i] != ':' {
			continue
		}
		seq, err := strconv.ParseInt(text[:i], 10, 64)
		hash, hexErr := hex.DecodeString(text[i+1:])
		if err != nil || hexErr != nil || seq < 1 || len(hash) != 32 {
			return audit.Head{}, wrong
		}
		return audit.Head{Seq: seq, Hash: hash}, nil
	}
	return audit.Head{}, wrong
}
