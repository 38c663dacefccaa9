package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
)

// atLayout is how the time of a record enters its hash: UTC with microseconds, as migrations/0005 writes it.
const atLayout = "2006-01-02T15:04:05.000000Z"

// Verifier checks a chain record by record, from the first one, with nothing but the records: it works on an export as well as on
// the table. Its zero value is ready for use.
type Verifier struct {
	seq  int64
	hash []byte // of the last good record; nil before the first
}

// BrokenError names the first record that does not fit.
type BrokenError struct {
	Seq    int64  // number that the record has, or should have
	Reason string // what does not fit, in words
}

// Error implements error.
func (e *BrokenError) Error() string {
	return fmt.Sprintf("audit chain broken at record %d: %s; keep this database as evidence and compare it with a backup", e.Seq, e.Reason)
}

// Add checks the next record: its number, its link to the one before, and its own hash. The error is a *BrokenError.
func (v *Verifier) Add(r Record) error {
	previous := v.hash
	if previous == nil {
		previous = make([]byte, sha256.Size)
	}
	switch {
	case r.Seq != v.seq+1:
		return &BrokenError{Seq: v.seq + 1, Reason: fmt.Sprintf("it is missing, the next record is %d", r.Seq)}
	case !bytes.Equal(r.PrevHash, previous):
		return &BrokenError{Seq: r.Seq, Reason: "it does not follow the record before"}
	case !bytes.Equal(r.Hash, hash(previous, r)):
		return &BrokenError{Seq: r.Seq, Reason: "its content is not what was written"}
	}
	v.seq, v.hash = r.Seq, bytes.Clone(r.Hash)
	return nil
}

// Head is the last good record; its hash is 32 zero bytes before the first.
func (v *Verifier) Head() Head {
	h := Head{Seq: v.seq, Hash: v.hash}
	if h.Hash == nil {
		h.Hash = make([]byte, sha256.Size)
	}
	return h
}

// End compares the chain with a head that was noted elsewhere or read before the records: a cut tail shows here and nowhere else.
func (v *Verifier) End(head Head) error {
	got := v.Head()
	switch {
	case got.Seq < head.Seq:
		return &BrokenError{Seq: got.Seq + 1, Reason: fmt.Sprintf("it is missing, the head says that there are %d records", head.Seq)}
	case got.Seq == head.Seq && !bytes.Equal(got.Hash, head.Hash):
		return &BrokenError{Seq: head.Seq, Reason: "the head has another hash"}
	}
	return nil
}

// hash follows audit_hash of migrations/0005.
func hash(previous []byte, r Record) []byte {
	sum := sha256.New()
	_, _ = sum.Write(previous) // a hash never fails
	for _, field := range []string{strconv.FormatInt(r.Seq, 10), r.At.UTC().Format(atLayout), r.Service, r.Actor, r.Action, r.Object, r.Detail} {
		_, _ = fmt.Fprintf(sum, "%d:%s,", len(field), field)
	}
	return sum.Sum(nil)
}

// Verify checks the whole table and returns its head. A broken chain is a *BrokenError.
func Verify(ctx context.Context, q Querier) (Head, error) {
	head, err := ReadHead(ctx, q) // first, so that records written meanwhile do not look like a difference
	if err != nil {
		return Head{}, err
	}
	var v Verifier
	for {
		page, err := List(ctx, q, Filter{After: v.seq, Limit: maxPage})
		if err != nil {
			return Head{}, err
		}
		for _, r := range page {
			if err := v.Add(r); err != nil {
				return v.Head(), err
			}
		}
		if len(page) < maxPage {
			return v.Head(), v.End(head)
		}
	}
}
