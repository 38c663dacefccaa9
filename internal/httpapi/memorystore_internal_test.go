package httpapi

import (
	"errors"
	"testing"
	"time"
)

func TestMemoryStoreIsBounded(t *testing.T) {
	t.Parallel()
	s := NewMemoryStore()
	now := time.Unix(0, 0)
	s.now, s.max = func() time.Time { return now }, 2
	ctx := t.Context()
	begin := func(key string) (*Response, error) { return s.Begin(ctx, key, [32]byte{1}) }
	for _, k := range []string{"a", "b"} {
		if r, err := begin(k); r != nil || err != nil {
			t.Fatal(r, err)
		}
	}
	if _, err := begin("c"); err == nil {
		t.Fatal("a key in progress was pushed out")
	}
	if _, err := begin("a"); !errors.Is(err, ErrInProgress) {
		t.Fatal(err)
	}
	if err := s.Finish(ctx, "a", Response{Status: 200}); err != nil {
		t.Fatal(err)
	}
	if err := s.Finish(ctx, "a", Response{Status: 201}); err == nil {
		t.Fatal("finished twice")
	}
	if r, err := begin("a"); err != nil || r.Status != 200 {
		t.Fatal(r, err)
	}
	if _, err := begin("c"); err != nil { // the oldest answer makes room
		t.Fatal(err)
	}
	if err := s.Release(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(ctx, "c"); err == nil {
		t.Fatal("released twice")
	}
	if err := s.Finish(ctx, "b", Response{Status: 200}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(memoryAge)
	if r, err := begin("b"); r != nil || err != nil {
		t.Fatal("an old answer was kept", r, err)
	}
}
