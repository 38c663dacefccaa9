package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/registry"
)

func terminalCommand(c *client) *cobra.Command {
	cmd := &cobra.Command{Use: "terminal", Short: "Terminals and their cards", Args: cobra.NoArgs, RunE: needsCommand}
	cmd.AddCommand(terminalList(c), terminalShow(c), terminalAdd(c), terminalBind(c),
		terminalState(c, "suspend", "Take the right to trade from a terminal", "suspended"),
		terminalState(c, "activate", "Let a terminal trade again", "active"))
	return cmd
}

// needsCommand refuses a group without one of its commands.
func needsCommand(cmd *cobra.Command, _ []string) error {
	return &usageError{cmd.CommandPath() + " needs a command"}
}

func terminalList(c *client) *cobra.Command {
	var state, merchant, text string
	cmd := &cobra.Command{
		Use: "list", Short: "List terminals", Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			items, err := all[registry.View](cmd.Context(), c, "/v1/terminals", url.Values{"state": {state}, "merchant": {merchant}, "text": {text}})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, v := range items {
				flag := ""
				if v.Looping {
					flag = "SIGNS ON AGAIN AND AGAIN"
				}
				rows = append(rows, []string{v.ID, v.MerchantID, v.State, dash(v.PSAM), dash(v.CardState), string(v.KeyState), when(v.LastSignOn), dash(v.KCV), flag})
			}
			return c.show(cmd.OutOrStdout(), items, []string{"TERMINAL", "MERCHANT", "STATE", "CARD", "CARD STATE", "KEYS", "LAST SIGN-ON", "KCV", ""}, rows)
		}),
	}
	cmd.Flags().StringVar(&state, "state", "", "only terminals in this state")
	cmd.Flags().StringVar(&merchant, "merchant", "", "only terminals of this merchant")
	cmd.Flags().StringVar(&text, "text", "", "only terminals with this text in a number or the merchant's name")
	return cmd
}

func terminalShow(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "show TERMINAL", Short: "Show a terminal with the history of its cards", Args: cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			var v struct {
				registry.View
				Bindings []registry.Binding `json:"bindings"`
			}
			path := "/v1/terminals/" + url.PathEscape(args[0])
			if err := c.call(cmd.Context(), http.MethodGet, path, nil, &v.View); err != nil {
				return err
			}
			var history struct {
				Items []registry.Binding `json:"items"`
			}
			if err := c.call(cmd.Context(), http.MethodGet, path+"/bindings", nil, &history); err != nil {
				return err
			}
			v.Bindings = history.Items
			rows := [][]string{
				{"terminal", v.ID}, {"state", v.State}, {"merchant", v.MerchantID + " " + v.MerchantName}, {"merchant state", v.MerchantState},
				{"algorithm", v.Algorithm}, {"card", dash(v.PSAM)}, {"card state", dash(v.CardState)}, {"master key KCV", dash(v.KCV)},
				{"working keys", string(v.KeyState)}, {"last sign-on", when(v.LastSignOn)},
			}
			for _, b := range v.Bindings {
				rows = append(rows, []string{"binding", b.PSAM + " from " + when(&b.ValidFrom) + " until " + when(b.ValidTo) + " (" + b.Reason + ")"})
			}
			return c.show(cmd.OutOrStdout(), v, nil, rows)
		}),
	}
}

func terminalAdd(c *client) *cobra.Command {
	var merchant, merchantName, algorithm string
	var test bool
	cmd := &cobra.Command{
		Use: "add TERMINAL", Short: "Register a terminal, and its merchant when --merchant-name is given", Args: cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			if merchantName != "" {
				if err := c.call(cmd.Context(), http.MethodPut, "/v1/merchants/"+url.PathEscape(merchant), map[string]string{"name": merchantName}, nil); err != nil {
					return err
				}
			}
			change := registry.TerminalChange{MerchantID: merchant}
			if cmd.Flags().Changed("algorithm") {
				change.Algorithm = &algorithm
			}
			if cmd.Flags().Changed("test") {
				change.Test = &test
			}
			var t registry.Terminal
			if err := c.call(cmd.Context(), http.MethodPut, "/v1/terminals/"+url.PathEscape(args[0]), change, &t); err != nil {
				return err
			}
			return c.showTerminal(cmd, t)
		}),
	}
	cmd.Flags().StringVar(&merchant, "merchant", "", "number of the merchant, 15 characters")
	cmd.Flags().StringVar(&merchantName, "merchant-name", "", "register the merchant under this name first")
	cmd.Flags().StringVar(&algorithm, "algorithm", "tdes", "algorithm of the working keys: des, tdes or sm4")
	cmd.Flags().BoolVar(&test, "test", false, "a test terminal, kept out of totals")
	_ = cmd.MarkFlagRequired("merchant") // the flag exists
	return cmd
}

func (c *client) showTerminal(cmd *cobra.Command, t registry.Terminal) error {
	return c.show(cmd.OutOrStdout(), t, []string{"TERMINAL", "MERCHANT", "STATE", "ALGORITHM"}, [][]string{{t.ID, t.MerchantID, t.State, t.Algorithm}})
}

func terminalBind(c *client) *cobra.Command {
	var psam, reason string
	cmd := &cobra.Command{
		Use: "bind TERMINAL", Short: "Put a card into a terminal", Args: cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			var b registry.Binding
			err := c.call(cmd.Context(), http.MethodPut, "/v1/terminals/"+url.PathEscape(args[0])+"/card", map[string]string{"psam_no": psam, "reason": reason}, &b)
			if err != nil {
				return err
			}
			return c.show(cmd.OutOrStdout(), b, []string{"TERMINAL", "CARD", "SINCE", "REASON"}, [][]string{{b.Terminal, b.PSAM, when(&b.ValidFrom), b.Reason}})
		}),
	}
	cmd.Flags().StringVar(&psam, "psam", "", "number of the card, 20 digits")
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	_ = cmd.MarkFlagRequired("psam") // the flag exists
	return cmd
}

func terminalState(c *client, name, short, state string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: name + " TERMINAL", Short: short, Args: cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			var t registry.Terminal
			err := c.call(cmd.Context(), http.MethodPost, "/v1/terminals/"+url.PathEscape(args[0])+"/state", map[string]string{"state": state, "reason": reason}, &t)
			if err != nil {
				return err
			}
			return c.showTerminal(cmd, t)
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	_ = cmd.MarkFlagRequired("reason") // the flag exists
	return cmd
}
