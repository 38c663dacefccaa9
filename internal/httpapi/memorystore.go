package httpapi

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

// Limits of the store in memory.
const (
	// memoryEntries bounds the keys: at 10,000 answers of a few KiB it holds tens of MiB at most in practice.
	memoryEntries = 10000
	// memoryAge is how long an answer is kept: clients repeat within minutes; a day covers an operator's retry after lunch.
	memoryAge = 24 * time.Hour
)

// MemoryStore is a Store in this process: its keys end with it. Use it in development, and where the operation itself is idempotent.
type MemoryStore struct {
	now func() time.Time
	max int

	mu      sync.Mutex
	entries map[string]*entry
	kept    *list.List // of *entry with an answer, the oldest first
}

// entry is one key.
type entry struct {
	key    string
	digest [sha256.Size]byte
	answer *Response // nil while in progress
	at     time.Time // when the answer was kept
	place  *list.Element
}

// NewMemoryStore makes an empty one.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{now: time.Now, max: memoryEntries, entries: map[string]*entry{}, kept: list.New()}
}

var _ Store = (*MemoryStore)(nil)

// Begin implements Store.
func (s *MemoryStore) Begin(_ context.Context, key string, digest [sha256.Size]byte) (*Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	if e, ok := s.entries[key]; ok {
		switch {
		case e.digest != digest:
			return nil, ErrOtherRequest
		case e.answer == nil:
			return nil, ErrInProgress
		}
		return e.answer, nil
	}
	if len(s.entries) >= s.max {
		oldest := s.kept.Front()
		if oldest == nil {
			return nil, errors.New("too many requests with idempotency keys in progress")
		}
		s.drop(oldest.Value.(*entry))
	}
	s.entries[key] = &entry{key: key, digest: digest}
	return nil, nil
}

// Finish implements Store.
func (s *MemoryStore) Finish(_ context.Context, key string, answer Response) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	if !ok || e.answer != nil {
		return errors.New("idempotency key is not claimed")
	}
	e.answer, e.at = &answer, s.now()
	e.place = s.kept.PushBack(e)
	return nil
}

// Release implements Store.
func (s *MemoryStore) Release(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	if !ok || e.answer != nil {
		return errors.New("idempotency key is not claimed")
	}
	delete(s.entries, key)
	return nil
}

// expire drops what is too old. The caller holds mu.
func (s *MemoryStore) expire() {
	for p := s.kept.Front(); p != nil && s.now().Sub(p.Value.(*entry).at) >= memoryAge; p = s.kept.Front() {
		s.drop(p.Value.(*entry))
	}
}

// drop forgets a kept answer. The caller holds mu.
func (s *MemoryStore) drop(e *entry) {
	s.kept.Remove(e.place)
	delete(s.entries, e.key)
}
