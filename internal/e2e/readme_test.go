package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	// commandLine is one of README.md: in a block of code or in backquotes.
	commandLine = regexp.MustCompile("(?m)(?:^ *|`)((?:bin/|curl )[^`\n#]*)")
	quoted      = regexp.MustCompile(`'[^']*'|\S+`)
	local       = regexp.MustCompile(`127\.0\.0\.1:(\d+)`)
)

// words splits a command line as a shell does, as far as README.md needs it.
func words(line string) []string {
	list := quoted.FindAllString(strings.TrimSpace(line), -1)
	for i := range list {
		list[i] = strings.Trim(list[i], "'")
	}
	return list
}

func readmeCommands(t *testing.T) [][]string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var list [][]string
	for _, m := range commandLine.FindAllStringSubmatch(string(text), -1) {
		list = append(list, words(m[1]))
	}
	if len(list) < 8 {
		t.Fatalf("only %d commands found in README.md", len(list))
	}
	return list
}

// TestReadmeCommandsExist gives every command of README.md with --help in place of its run: the program must know the command and
// every flag.
func TestReadmeCommandsExist(t *testing.T) {
	if testing.Short() {
		t.Skip(errShort)
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range readmeCommands(t) {
		if args[0] == "curl" {
			continue
		}
		if problem := refusedCommand(dir, args); problem != "" {
			t.Errorf("README.md: %s: %s", strings.Join(args, " "), problem)
		}
	}
	for _, wrong := range []string{"bin/posv terminal suspnd 10000001 --reason test", "bin/pos purchase --amuont 1", "bin/nothing"} {
		if refusedCommand(dir, words(wrong)) == "" {
			t.Errorf("%q passes", wrong)
		}
	}
}

// refusedCommand says why a program does not know a command line, "" when it does.
func refusedCommand(dir string, args []string) string {
	program := filepath.Base(args[0])
	out, err := exec.Command(filepath.Join(dir, program), append(args[1:len(args):len(args)], "--help")...).CombinedOutput()
	if err != nil {
		return err.Error() + ": " + string(out)
	}
	path := program
	for _, word := range args[1:] { // the words before the first flag or argument are the command
		if strings.HasPrefix(word, "-") || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz-") != "" {
			break
		}
		path += " " + word
	}
	if !strings.Contains(string(out), "\n  "+path+" ") {
		return "there is no such command; the program offers:\n" + string(out)
	}
	return ""
}

// readme runs every command of README.md as it stands there, in its order, against this system's ports. Each must succeed.
func readme(t *testing.T, s *system) {
	order := ""
	for _, args := range readmeCommands(t) {
		line := strings.Join(args, " ")
		if args[0] == "curl" {
			if status := s.curl(t, args[1:]); status/100 != 2 {
				t.Errorf("README.md: %s: %d", line, status)
			}
			continue
		}
		for i := range args {
			if args[i] == "ORDER" {
				args[i] = order
			}
		}
		exit, out := s.run(t, filepath.Base(args[0]), args[1:]...)
		if exit != 0 {
			t.Errorf("README.md: %s: exit %d\n%s", line, exit, out)
		}
		if strings.Contains(line, "order create") {
			order = s.newestOrder(t)
			if !strings.Contains(out, order) {
				t.Errorf("README.md: %s does not print the order's number", line)
			}
		}
	}
	// The last one suspended the first terminal.
	if r := s.terminal(t, "purchase", "--terminal", "10000001"); r.Code == "00" {
		t.Errorf("a suspended terminal trades: %+v", r)
	}
}

func (s *system) newestOrder(t *testing.T) string {
	t.Helper()
	_, body := s.ask(t, http.MethodGet, 8080, "/v1/orders?limit=1", "")
	var list struct {
		Items []struct {
			ID string `json:"order_id"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &list); err != nil || len(list.Items) == 0 {
		t.Fatalf("orders: %v: %s", err, body)
	}
	return list.Items[0].ID
}

// curl does what the options of README.md's curl lines say.
func (s *system) curl(t *testing.T, args []string) int {
	t.Helper()
	method, body, url := http.MethodGet, "", ""
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-X":
			i++
			method = args[i]
		case "-d":
			i++
			body = args[i]
		case "-H":
			i++ // ask sends the one header that there is
		default:
			url = args[i]
		}
	}
	m := local.FindStringSubmatch(url)
	if m == nil {
		t.Fatalf("README.md: curl without an address of this machine: %v", args)
	}
	port, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	_, path, _ := strings.Cut(url, m[0])
	status, _ := s.ask(t, method, port, path, body)
	return status
}
