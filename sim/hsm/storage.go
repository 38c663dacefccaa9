package hsm

import (
	"sync"
	"time"
)

// maxStored bounds the user storage; facts/hsm.md §1.7.3 allows 9999 places, and no test fills a tenth of them.
const maxStored = 1000

// storedKey is one key in the user storage, enciphered as any other.
type storedKey struct {
	keyType string // FFF for a key block.
	raw     rawKey
	kcv     string
	label   string
	at      time.Time
}

// storage keeps keys under an index from 1 to 9999. It never overwrites, so that a request that was sent twice shows.
type storage struct {
	mu   sync.Mutex
	keys map[int]storedKey
}

func newStorage() *storage { return &storage{keys: map[int]storedKey{}} }

func (s *storage) get(index int) (storedKey, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keys[index]
	return k, ok
}

func (s *storage) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.keys)
}

func (s *storage) put(index int, k storedKey) errorCode {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, used := s.keys[index]; used || len(s.keys) >= maxStored {
		return codeIndex
	}
	s.keys[index] = k
	return codeOK
}

// place is the store suffix of a command: where the new key is to be kept (docs/hsm-sim.md §9.6).
type place struct {
	index int // 0: not at all.
	label string
}

// storeSuffix reads index and label behind the "K".
func (f *fields) storeSuffix() place {
	p := place{index: f.number(4, 10, 1, 9999)}
	p.label = f.text(f.number(2, 10, 0, 99))
	for _, c := range []byte(p.label) {
		if c < ' ' || c > '~' {
			f.fail(codeInput)
		}
	}
	return p
}

// keep stores the key field at the end of the answer when the request asks for it.
func (q *request) keep(keyType string, field []byte, k *key) errorCode {
	if q.store.index == 0 {
		return codeOK
	}
	f := fields{buf: field}
	raw := f.key()
	raw.as = keyType
	return q.station.storage.put(q.store.index, storedKey{keyType: keyType, raw: raw, kcv: k.checkValue(), label: q.store.label, at: time.Now()})
}
