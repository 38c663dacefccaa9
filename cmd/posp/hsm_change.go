package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmops"
)

// notPermanent is said after every change that a restart would undo.
const notPermanent = " Make it permanent with: posp hsm save"

func memberPath(name, what string) string { return "/members/" + url.PathEscape(name) + what }

func addHSM(c *hsmClient) *cobra.Command {
	var s member.Spec
	var role string
	var tls member.TLS
	var settings []string
	cmd := &cobra.Command{
		Use: "add NAME HOST:PORT", Short: "Add a member while running (old: AddHsm)", Args: cobra.ExactArgs(2),
		Long: "Adds a member. It is examined at once: address, LMK check value, firmware, known-answer test. One that does not answer is refused;\n" +
			"with --force it is added as down and comes in when it answers and passes.",
		Example: "  posp hsm add hsm4 10.3.0.14:1500 --private --rated 2500\n" +
			"  posp hsm add hsm4 10.3.0.14:1501 --tls-cert c.pem --tls-key c.key --tls-ca ca.pem --role standby\n" +
			"  posp hsm add hsm1-kb 127.0.0.1:15001 --domain dev-kb",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.Name, s.Addr, s.Role = args[0], args[1], member.State(role)
			if s.Priority < 1 && cmd.Flags().Changed("priority") {
				return &usageError{fmt.Sprintf("priority %d is not possible: 1 is served first; leave --priority out for 1", s.Priority)}
			}
			if tls != (member.TLS{}) {
				s.TLS = &tls
			}
			for _, one := range settings {
				k, v, ok := strings.Cut(one, "=")
				if !ok || k == "" {
					return &usageError{"--set must look like header_length=4"}
				}
				if s.Settings == nil {
					s.Settings = map[string]string{}
				}
				s.Settings[k] = v
			}
			var got member.Status
			if err := c.do(cmd.Context(), "/members", hsmops.AddOrder{Order: c.order(), Spec: s}, &got); err != nil {
				return err
			}
			return c.say(cmd.OutOrStdout(), got, "%s is added and %s.%s", s.Name, described(got), notPermanent)
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.Domain, "domain", "", "LMK domain; empty: the default one")
	f.StringVar(&s.Driver, "driver", "", "racal or pkcs11; empty: racal")
	f.StringVar(&role, "role", "", "working or standby; empty: working")
	f.IntVar(&s.Priority, "priority", 0, "1 is served first; left out: 1")
	f.IntVar(&s.Weight, "weight", 0, "share within a priority; 0: 1")
	f.IntVar(&s.Channels, "channels", 0, "data channels; 0: 6")
	f.IntVar(&s.Connections, "connections", 0, "connections at most, probing included; 0: channels and 2")
	f.IntVar(&s.Depth, "depth", 0, "requests under way on one channel; 0: the cluster's default")
	f.IntVar(&s.Rated, "rated", 0, "commands per second that the device is licensed for; 0: unknown")
	f.StringVar(&s.Probe, "probe-command", "", "host command of the heartbeat; empty: the driver's default")
	f.StringArrayVar(&settings, "set", nil, "a setting of the driver, for example header_length=4; may be repeated")
	f.StringVar(&tls.Cert, "tls-cert", "", "certificate for the device (PEM, on the machine of the service)")
	f.StringVar(&tls.Key, "tls-key", "", "its key")
	f.StringVar(&tls.CA, "tls-ca", "", "authority of the device's certificate")
	f.StringVar(&tls.ServerName, "tls-server-name", "", "name in the device's certificate; empty: the host")
	f.BoolVar(&s.Private, "private", false, "the plain line is protected otherwise")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"working", "standby"}, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	return c.orders(cmd)
}

// described is a member's state with its reason.
func described(s member.Status) string {
	if s.Reason == "" {
		return string(s.State)
	}
	return string(s.State) + " (" + s.Reason + ")"
}

func removeHSM(c *hsmClient) *cobra.Command {
	return c.orders(&cobra.Command{
		Use: "remove NAME", Aliases: []string{"rm"}, Short: "Drain a member and remove it (old: DelHsm)", Args: cobra.ExactArgs(1), ValidArgsFunction: c.names,
		Long: "Gives the member no new request, waits until those under way have ended, and removes it. Refused when it is the last one that works,\n" +
			"or when the others could not carry the present load, unless --force is given.",
		Example: "  posp hsm remove hsm3 --reason \"goes back to the maker\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.do(cmd.Context(), memberPath(args[0], "/remove"), c.order(), nil); err != nil {
				return err
			}
			return c.say(cmd.OutOrStdout(), map[string]string{"removed": args[0]}, "%s is removed.%s", args[0], notPermanent)
		},
	})
}

// setState orders a state and says what came of it.
func (c *hsmClient) setState(cmd *cobra.Command, name string, to member.State) error {
	var got member.Status
	if err := c.do(cmd.Context(), memberPath(name, "/state"), hsmops.StateOrder{Order: c.order(), State: to}, &got); err != nil {
		return err
	}
	note := ""
	switch got.State {
	case member.Draining:
		note = " On this instance, until it restarts; to keep it out everywhere and for good: posp hsm remove, then save."
	case member.Fenced:
		note = " On this instance, until it restarts; to keep it fenced everywhere and for good: posp hsm save."
	case member.Working, member.Standby, member.Suspect, member.Down:
	}
	return c.say(cmd.OutOrStdout(), got, "%s is %s.%s", name, described(got), note)
}

func drainHSM(c *hsmClient) *cobra.Command {
	return c.orders(&cobra.Command{
		Use: "drain NAME", Short: "Give a member no new request and wait until those under way have ended", Args: cobra.ExactArgs(1), ValidArgsFunction: c.names,
		Long: "For planned work on a device. It stays connected and probed. Back into service: posp hsm state NAME working.\n" +
			"Refused when the others could not carry the present load, unless --force is given.",
		Example: "  posp hsm drain hsm2 --reason \"new firmware\"",
		RunE:    func(cmd *cobra.Command, args []string) error { return c.setState(cmd, args[0], member.Draining) },
	})
}

func stateCommand(c *hsmClient) *cobra.Command {
	states := []string{string(member.Working), string(member.Standby), string(member.Draining), string(member.Fenced)}
	return c.orders(&cobra.Command{
		Use: "state NAME " + strings.Join(states, "|"), Short: "Set the state of a member (old: ModifyHsm)", Args: cobra.ExactArgs(2),
		Long: "working gets traffic. standby is connected and probed, and gets traffic when the working ones fall below the floor or are full.\n" +
			"draining gets no new request. fenced gets nothing until its state is set again. suspect and down are the cluster's own findings.",
		Example: "  posp hsm state hsm2 working\n  posp hsm state hsm3 fenced --reason \"opened without a witness\"",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return states, cobra.ShellCompDirectiveNoFileComp
			}
			return c.names(cmd, args, begin)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return c.setState(cmd, args[0], member.State(args[1])) },
	})
}

// changing makes a command that modifies one thing of a member.
func changing(c *hsmClient, use, short, long, example string, change func(value string) (member.Change, error)) *cobra.Command {
	return c.orders(&cobra.Command{
		Use: use, Short: short, Long: long, Example: example, Args: cobra.ExactArgs(2), ValidArgsFunction: c.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			ch, err := change(args[1])
			if err != nil {
				return err
			}
			var got member.Status
			if err := c.do(cmd.Context(), memberPath(args[0], "/change"), hsmops.ChangeOrder{Order: c.order(), Change: ch}, &got); err != nil {
				return err
			}
			return c.say(cmd.OutOrStdout(), got, "%s has priority %d, weight %d, %s, probe command %s.%s", args[0], got.Spec.Priority,
				got.Spec.Weight, rating(got.Spec.Rated), map[bool]string{true: "of the driver", false: got.Spec.Probe}[got.Spec.Probe == ""], notPermanent)
		},
	})
}

// rating is what a device is licensed for, in words.
func rating(perSecond int) string {
	if perSecond == 0 {
		return "rating unknown"
	}
	return fmt.Sprintf("rated %d per second", perSecond)
}

// whole reads a number.
func whole(what string, into func(*int) member.Change) func(string) (member.Change, error) {
	return func(value string) (member.Change, error) {
		n, err := strconv.Atoi(value)
		if err != nil {
			return member.Change{}, &usageError{fmt.Sprintf("%s must be a whole number", what)}
		}
		return into(&n), nil
	}
}

func priorityCommand(c *hsmClient) *cobra.Command {
	return changing(c, "priority NAME NUMBER", "Set the priority of a member (old: ModifyPri)",
		"1 is served first. Members of the next number get what the ones before have no place for.", "  posp hsm priority hsm2 1",
		whole("the priority", func(n *int) member.Change { return member.Change{Priority: n} }))
}

func weightCommand(c *hsmClient) *cobra.Command {
	return changing(c, "weight NAME NUMBER", "Set a member's share within its priority", "A member of weight 2 gets twice as much as one of weight 1.",
		"  posp hsm weight hsm2 2", whole("the weight", func(n *int) member.Change { return member.Change{Weight: n} }))
}

func ratedCommand(c *hsmClient) *cobra.Command {
	return changing(c, "rated NAME COMMANDS-PER-SECOND", "Say what a device is licensed for", "The load is shown against it, and the forecast uses it. 0: unknown.",
		"  posp hsm rated hsm2 2500", whole("the rate", func(n *int) member.Change { return member.Change{Rated: n} }))
}

func probeCommandCommand(c *hsmClient) *cobra.Command {
	return changing(c, "probe-command NAME COMMAND|default", "Choose the host command of a member's heartbeat",
		"Only harmless questions are taken; which ones the driver knows is said when another is refused.", "  posp hsm probe-command hsm2 B2\n  posp hsm probe-command hsm2 default",
		func(value string) (member.Change, error) {
			if value == "default" {
				value = ""
			}
			return member.Change{Probe: &value}, nil
		})
}

func probeCommand(c *hsmClient) *cobra.Command {
	return &cobra.Command{
		Use: "probe NAME", Short: "Probe a member now; one that is down or fenced and passes comes back", Args: cobra.ExactArgs(1), ValidArgsFunction: c.names,
		Example: "  posp hsm probe hsm2",
		RunE: func(cmd *cobra.Command, args []string) error {
			var got member.ProbeResult
			if err := c.do(cmd.Context(), memberPath(args[0], "/probe"), hsmops.Order{}, &got); err != nil {
				return err
			}
			result := "passed"
			if !got.OK {
				result = "FAILED: " + got.Problem
			}
			err := c.say(cmd.OutOrStdout(), got, "%s %s after %s. It is %s. Serial number %s, firmware %s, LMK check value %s.", args[0], result, millis(got.TookMS), got.State,
				dashed(got.Device.Serial), dashed(got.Device.Firmware), dashed(string(got.Device.LMKCheck)))
			if err == nil && !got.OK {
				return &exitError{exitFailure, fmt.Errorf("%s has not passed: %s", args[0], got.Problem)}
			}
			return err
		},
	}
}
