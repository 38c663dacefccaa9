package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/posv/orders"
)

func orderCommand(c *client) *cobra.Command {
	cmd := &cobra.Command{Use: "order", Short: "Orders to issue cards", Args: cobra.NoArgs, RunE: needsCommand}
	cmd.AddCommand(orderCreate(c), orderApprove(c), orderList(c))
	return cmd
}

func orderCreate(c *client) *cobra.Command {
	var from string
	var count int
	var algorithms []string
	var life time.Duration
	cmd := &cobra.Command{
		Use: "create", Short: "Make an order; two people must approve it", Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			var o orders.Order
			draft := orders.Draft{PSAMFrom: from, Count: count, Algorithms: algorithms, ExpiresAt: time.Now().Add(life).UTC().Truncate(time.Second)}
			if err := c.call(cmd.Context(), http.MethodPost, "/v1/orders", draft, &o); err != nil {
				return err
			}
			return c.showOrders(cmd, o, []orders.Order{o})
		}),
	}
	cmd.Flags().StringVar(&from, "psam-from", "", "first PSAM number, 20 digits")
	cmd.Flags().IntVar(&count, "count", 1, "how many cards")
	cmd.Flags().StringSliceVar(&algorithms, "algorithm", []string{"tdes"}, "algorithms to derive for: tdes, sm4")
	cmd.Flags().DurationVar(&life, "expires-in", 24*time.Hour, "how long the order may be used")
	_ = cmd.MarkFlagRequired("psam-from") // the flag exists
	return cmd
}

func orderApprove(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "approve ORDER", Short: "Approve an order; the second person's approval signs it", Args: cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			var o orders.Order
			if err := c.call(cmd.Context(), http.MethodPost, "/v1/orders/"+url.PathEscape(args[0])+"/approvals", struct{}{}, &o); err != nil {
				return err
			}
			return c.showOrders(cmd, o, []orders.Order{o})
		}),
	}
}

func orderList(c *client) *cobra.Command {
	var psam, state string
	cmd := &cobra.Command{
		Use: "list", Short: "List orders, newest first", Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			items, err := all[orders.Order](cmd.Context(), c, "/v1/orders", url.Values{"psam_no": {psam}, "state": {state}})
			if err != nil {
				return err
			}
			return c.showOrders(cmd, items, items)
		}),
	}
	cmd.Flags().StringVar(&psam, "psam", "", "only orders that cover this card")
	cmd.Flags().StringVar(&state, "state", "", "only orders in this state: draft, signed, withdrawn, expired")
	return cmd
}

func (c *client) showOrders(cmd *cobra.Command, value any, list []orders.Order) error {
	var rows [][]string
	for _, o := range list {
		state := o.State
		if o.Needed > 0 {
			state = fmt.Sprintf("%s, %d more to approve", state, o.Needed)
		}
		rows = append(rows, []string{
			o.ID, state, o.PSAMFrom, fmt.Sprintf("%d of %d", o.Used, o.Count), strings.Join(o.Algorithms, " "), when(&o.ExpiresAt), o.Author, dash(strings.Join(o.Approvers, " ")),
		})
	}
	return c.show(cmd.OutOrStdout(), value, []string{"ORDER", "STATE", "FIRST CARD", "USED", "ALGORITHMS", "EXPIRES", "AUTHOR", "APPROVED BY"}, rows)
}
