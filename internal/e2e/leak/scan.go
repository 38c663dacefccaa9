package leak

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

const (
	// prefixSize is how much of a pattern is looked up at once: the shortest pattern, a packed number of 12 digits.
	prefixSize = 6
	// filterBits is the size of the filter before the lookup: with some ten thousand patterns about one place in a hundred passes.
	filterBits = 20
	// chunk is how much of a file is held in memory.
	chunk = 4 << 20
	// mix is an odd number whose product spreads every bit of a prefix (2^64 divided by the golden ratio).
	mix = 0x9E3779B97F4A7C15
	// maxPerForm bounds the findings of one form in one place: the tenth says nothing new.
	maxPerForm = 10
)

// Finding is a secret in a place where it must not be.
type Finding struct {
	Secret, Form string // what was found, and how it was written
	Where        string // file, table or listener
	Offset       int64  // bytes from the beginning of Where
}

// String names all but the value.
func (f Finding) String() string {
	return fmt.Sprintf("%s at byte %d: %s (%s)", f.Where, f.Offset, f.Secret, f.Form)
}

// Scanner looks for all forms of all secrets at once. It is safe for concurrent use.
type Scanner struct {
	filter   [1 << filterBits / 64]uint64
	patterns map[uint64][]pattern // by the first six bytes
	longest  int
	piece    int // how much of a file is read at a time
}

type pattern struct {
	secret, form string
	bytes        []byte
}

// New makes a scanner. A secret that is too short to be told from chance is an error.
func New(secrets ...Secret) (*Scanner, error) {
	if err := check(secrets); err != nil {
		return nil, fmt.Errorf("secrets to look for: %w", err)
	}
	if len(secrets) == 0 {
		return nil, errors.New("secrets to look for: there are none")
	}
	s := &Scanner{patterns: map[uint64][]pattern{}, piece: chunk}
	seen := map[string]bool{}
	for _, secret := range secrets {
		for _, f := range secret.forms {
			if len(f.bytes) < minForm || seen[string(f.bytes)] {
				continue
			}
			seen[string(f.bytes)] = true
			prefix := prefixOf(f.bytes)
			slot := prefix * mix >> (64 - filterBits)
			s.filter[slot/64] |= 1 << (slot % 64)
			s.patterns[prefix] = append(s.patterns[prefix], pattern{secret.name, f.name, f.bytes})
			s.longest = max(s.longest, len(f.bytes))
		}
	}
	return s, nil
}

// prefixOf is the first six bytes of b, which has as many, in one number.
func prefixOf(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.LittleEndian.Uint64(b) & (1<<48 - 1)
	}
	return uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint16(b[4:]))<<32
}

// Bytes searches b, which stands for where.
func (s *Scanner) Bytes(where string, b []byte) []Finding {
	var out []Finding
	s.scan(b, len(b), func(at int, p *pattern) { out = append(out, Finding{p.secret, p.form, where, int64(at)}) })
	return bounded(out)
}

// scan reports every pattern that begins before end.
func (s *Scanner) scan(b []byte, end int, found func(at int, p *pattern)) {
	end = min(end, len(b)-prefixSize+1)
	for i := 0; i < end; i++ {
		prefix := prefixOf(b[i:])
		slot := prefix * mix >> (64 - filterBits)
		if s.filter[slot/64]&(1<<(slot%64)) == 0 {
			continue
		}
		list := s.patterns[prefix]
		for k := range list {
			if bytes.HasPrefix(b[i:], list[k].bytes) {
				found(i, &list[k])
			}
		}
	}
}

// Reader searches all of r and tells how much that was.
func (s *Scanner) Reader(where string, r io.Reader) (out []Finding, size int64, err error) {
	buffer := make([]byte, 0, s.piece+s.longest)
	for {
		n, err := io.ReadFull(r, buffer[len(buffer):s.piece])
		buffer = buffer[:len(buffer)+n]
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return out, size, fmt.Errorf("search %s: %w", where, err)
		}
		// What begins in the last bytes may end in the next piece: it is looked at then.
		end := len(buffer) - s.longest + 1
		if last {
			end = len(buffer)
		}
		end = max(end, 0)
		s.scan(buffer, end, func(at int, p *pattern) { out = append(out, Finding{p.secret, p.form, where, size + int64(at)}) })
		size += int64(end)
		if last {
			return bounded(out), size, nil
		}
		buffer = buffer[:copy(buffer[:cap(buffer)], buffer[end:])]
	}
}

// Totals is what was searched.
type Totals struct {
	Files   int
	Bytes   int64
	Skipped map[string]int // how many files each pattern of the allow-list kept out
}

// Tree searches every plain file below root, names included. allowed maps patterns of path.Match over the path below root to the
// reason why those files may hold secrets. A file that vanishes meanwhile is left out; any other error ends the search.
func (s *Scanner) Tree(root string, allowed map[string]string) (out []Finding, totals Totals, err error) {
	totals.Skipped = map[string]int{}
	tree, err := os.OpenRoot(root)
	if err != nil {
		return nil, totals, ignoreVanished(err)
	}
	defer func() { _ = tree.Close() }() // only read
	err = fs.WalkDir(tree.FS(), ".", func(rel string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreVanished(err)
		}
		out = append(out, s.Bytes("name of "+rel, []byte(rel))...)
		if !d.Type().IsRegular() {
			return nil
		}
		for p := range allowed {
			ok, err := path.Match(p, rel)
			if err != nil {
				return fmt.Errorf("allow-list %q: %w", p, err)
			}
			if ok {
				totals.Skipped[p]++
				return nil
			}
		}
		f, err := tree.Open(rel)
		if err != nil {
			return ignoreVanished(err)
		}
		defer func() { _ = f.Close() }() // only read
		found, n, err := s.Reader(rel, f)
		out = append(out, found...)
		totals.Files++
		totals.Bytes += n
		return err
	})
	return out, totals, err
}

func ignoreVanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// bounded keeps the first findings of each secret and form.
func bounded(all []Finding) []Finding {
	count := map[[2]string]int{}
	kept := all[:0]
	for _, f := range all {
		key := [2]string{f.Secret, f.Form}
		if count[key]++; count[key] <= maxPerForm {
			kept = append(kept, f)
		}
	}
	return kept
}
