package main

import (
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/issuer"
)

func listCommand(o *options) *cobra.Command {
	var psam string
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List the latest runs, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			if psam != "" {
				query.Set("psam_no", psam)
			}
			var list struct {
				Runs []issuer.Run `json:"runs"`
			}
			if err := o.call(cmd.Context(), http.MethodGet, "/v1/runs?"+query.Encode(), "", nil, &list); err != nil {
				return err
			}
			if o.output == formatJSON {
				return o.print(cmd.OutOrStdout(), list.Runs, nil, nil)
			}
			return o.printRuns(cmd.OutOrStdout(), list.Runs)
		},
	}
	c.Flags().StringVar(&psam, "psam", "", "only runs of this card, 20 digits")
	c.Flags().IntVar(&limit, "limit", 50, "how many, 1 to 500")
	return c
}

func (o *options) printRuns(w io.Writer, list []issuer.Run) error {
	var rows [][]string
	for _, r := range list {
		rows = append(rows, []string{r.Created.Local().Format(time.DateTime), r.PSAM, r.State, r.Step, r.ID, r.Error})
	}
	return o.print(w, nil, []string{"BEGUN", "PSAM NUMBER", "STATE", "STEP", "RUN", "ERROR"}, rows)
}
