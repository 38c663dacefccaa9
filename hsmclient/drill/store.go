package drill

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/keyward/keyward/hsmclient/member"
)

// idForm keeps an id that comes from outside from becoming another file's name.
var idForm = regexp.MustCompile(`^[0-9]{8}-[0-9]{6}-[0-9a-f]{4}$`)

// store keeps reports, the newest, in a directory or in memory.
type store struct {
	dir  string
	keep int

	mu   sync.Mutex
	kept []Progress        // oldest first
	mem  map[string]Report // without a directory
}

// openStore reads what the directory has. A file that cannot be read is left alone and not listed.
func openStore(dir string, keep int) (*store, error) {
	s := &store{dir: dir, keep: keep, mem: map[string]Report{}}
	if dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("drill: directory of reports: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("drill: directory of reports: %w", err)
	}
	for _, e := range entries { // in the order of names, which is that of time
		id, isReport := strings.CutSuffix(e.Name(), ".json")
		if !isReport || !idForm.MatchString(id) {
			continue
		}
		if rep, err := s.read(id); err == nil {
			s.kept = append(s.kept, ended(rep))
		}
	}
	return s, s.drop()
}

// save keeps a report; one with the same id is replaced.
func (s *store) save(rep Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.write(rep); err != nil {
		return fmt.Errorf("drill: keep the report %s: %w", rep.ID, err)
	}
	p := ended(rep)
	if i := slices.IndexFunc(s.kept, func(p Progress) bool { return p.ID == rep.ID }); i >= 0 {
		s.kept[i] = p
		return nil
	}
	s.kept = append(s.kept, p)
	return s.drop()
}

// write replaces the file in one step, so that a crash leaves the old or the new one.
func (s *store) write(rep Report) error {
	if s.dir == "" {
		s.mem[rep.ID] = rep
		return nil
	}
	b, err := json.Marshal(rep)
	if err != nil {
		return err
	}
	temp := s.path(rep.ID) + ".new"
	if err := os.WriteFile(temp, append(b, '\n'), 0o640); err != nil { //nolint:gosec // reports hold no secrets, the group may read them
		return err
	}
	return os.Rename(temp, s.path(rep.ID))
}

func (s *store) path(id string) string { return filepath.Join(s.dir, id+".json") }

// drop removes the oldest beyond the number to keep.
func (s *store) drop() error {
	var errs []error
	for len(s.kept) > s.keep {
		id := s.kept[0].ID
		s.kept = s.kept[1:]
		delete(s.mem, id)
		if s.dir != "" {
			errs = append(errs, os.Remove(s.path(id)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("drill: remove an old report: %w", err)
	}
	return nil
}

// load gives a kept report.
func (s *store) load(id string) (Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.kept, func(p Progress) bool { return p.ID == id }) {
		return Report{}, member.Refuse(member.NotFound, "list the drills", "there is no drill %q", id)
	}
	if s.dir == "" {
		return settled(s.mem[id]), nil
	}
	return s.read(id)
}

func (s *store) read(id string) (Report, error) {
	b, err := os.ReadFile(s.path(id))
	if err != nil {
		return Report{}, fmt.Errorf("drill: read the report %s: %w", id, err)
	}
	var rep Report
	if err := json.Unmarshal(b, &rep); err != nil {
		return Report{}, fmt.Errorf("drill: read the report %s: %w", id, err)
	}
	return settled(rep), nil
}

// settled names the end of a drill whose process ended while it ran: the fault has ended with it.
func settled(rep Report) Report {
	if rep.Verdict == Running {
		rep.Verdict, rep.Cause = Incomplete, "the service ended during the drill; the fault ended with it"
	}
	return rep
}

// list gives the kept drills, newest first.
func (s *store) list() []Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.kept)
	slices.Reverse(list)
	return list
}
