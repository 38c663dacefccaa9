package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/registry"
)

func cardCommand(c *client) *cobra.Command {
	cmd := &cobra.Command{Use: "card", Short: "PSAM cards", Args: cobra.NoArgs, RunE: needsCommand}
	cmd.AddCommand(cardList(c), cardShow(c))
	return cmd
}

func cardList(c *client) *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use: "list", Short: "List cards", Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			items, err := all[registry.Card](cmd.Context(), c, "/v1/cards", url.Values{"state": {state}})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, card := range items {
				rows = append(rows, []string{card.PSAM, card.State, dash(card.Terminal), dash(card.KCV), dash(card.KeyState)})
			}
			return c.show(cmd.OutOrStdout(), items, []string{"CARD", "STATE", "TERMINAL", "KCV", "KEY STATE"}, rows)
		}),
	}
	cmd.Flags().StringVar(&state, "state", "", "only cards in this state")
	return cmd
}

func cardShow(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "show CARD", Short: "Show a card with its history", Args: cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			var card struct {
				registry.Card
				Events   []registry.Event   `json:"events"`
				Bindings []registry.Binding `json:"bindings"`
			}
			if err := c.call(cmd.Context(), http.MethodGet, "/v1/cards/"+url.PathEscape(args[0]), nil, &card); err != nil {
				return err
			}
			rows := [][]string{{"card", card.PSAM}, {"state", card.State}, {"terminal", dash(card.Terminal)}, {"master key KCV", dash(card.KCV)}, {"master key", dash(card.KeyState)}}
			for _, e := range card.Events {
				rows = append(rows, []string{"event", when(&e.At) + " " + e.Event + " by " + e.Actor})
			}
			return c.show(cmd.OutOrStdout(), card, nil, rows)
		}),
	}
}
