package psam

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keyward/keyward/sim/psam/psamtest"
)

func TestStoreKeepsCards(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cards")
	store, err := OpenStore(dir, testTransport)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(testNumber); !errors.Is(err, ErrNoCard) {
		t.Fatalf("empty store: %v", err)
	}
	card, err := store.Blank(testNumber)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Blank(testNumber); !errors.Is(err, ErrCardExists) {
		t.Fatalf("second blank: %v", err)
	}
	root := psamtest.Hex(t, rootKey)
	psamtest.Issue(t, card, testTransport, root, nil)
	psamtest.LoadWorkKeys(t, card, psamtest.TDES, root, root, root, nil)
	want := psamtest.Send(t, card, psamtest.Hex(t, readStatus))
	if again, _ := store.Get(testNumber); again != card {
		t.Error("the store hands out a second card of one number")
	}

	// Another process opens the directory: every change had been saved by then.
	second, err := OpenStore(dir, testTransport)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := second.Get(testNumber)
	if err != nil {
		t.Fatal(err)
	}
	psamtest.SelectApplication(t, loaded)
	if got := psamtest.Send(t, loaded, psamtest.Hex(t, readStatus)); !bytes.Equal(got, want) {
		t.Errorf("status after loading %X, want %X", got, want)
	}
	if numbers, err := second.List(); err != nil || len(numbers) != 1 || numbers[0] != testNumber {
		t.Errorf("list: %v, %v", numbers, err)
	}
	if loaded.Number() != testNumber {
		t.Errorf("number %s", loaded.Number())
	}
}

func TestPutReplacesTheCard(t *testing.T) {
	t.Parallel()
	store, err := OpenStore(t.TempDir(), testTransport)
	if err != nil {
		t.Fatal(err)
	}
	old, err := store.Blank(testNumber)
	if err != nil {
		t.Fatal(err)
	}
	fresh := testCard(t)
	if err := store.Put(fresh); err != nil {
		t.Fatal(err)
	}
	if got, _ := store.Get(testNumber); got != fresh {
		t.Error("the store goes on with the old card")
	}
	key := bytes.Repeat([]byte{0x12}, 16)
	expect(t, psamtest.WriteKey(t, old, psamtest.TDES, testTransport, 0, 0, psamtest.TDES, key), swMemoryFailure)
	expect(t, psamtest.WriteKey(t, fresh, psamtest.TDES, testTransport, 0, 0, psamtest.TDES, key), swOK)
}

// TestImageHidesKeys searches the image for the keys that the card holds.
func TestImageHidesKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	card := terminalCard(t)
	if err := card.Save(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, testNumber+imageExt)
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range [][]byte{testTransport, psamtest.Hex(t, rootKey)} {
		if bytes.Contains(image, key[:8]) || strings.Contains(strings.ToUpper(string(image)), strings.ToUpper(hex.EncodeToString(key[:8]))) {
			t.Error("a key stands readable in the image")
		}
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"flipped bit": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"cut":         func(b []byte) []byte { return b[:len(b)/2] },
		"foreign":     func([]byte) []byte { return []byte("something else entirely, long enough to be an image") },
		"empty":       func([]byte) []byte { return nil },
	} {
		bad := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(bad, spoil(bytes.Clone(image)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// An image under another card's name must not become that card.
	other := "60000000000000000002"
	if err := os.Rename(path, filepath.Join(dir, other+imageExt)); err != nil {
		t.Fatal(err)
	}
	store, err := OpenStore(dir, testTransport)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(other); err == nil {
		t.Error("a renamed image was accepted")
	}
}

func TestStoreConcurrency(t *testing.T) {
	t.Parallel()
	store, err := OpenStore(t.TempDir(), testTransport)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 8 {
		wg.Go(func() {
			_, err := store.Blank(testNumber)
			if err != nil && !errors.Is(err, ErrCardExists) {
				t.Error(err)
			}
			if err == nil {
				mu.Lock()
				made++
				mu.Unlock()
			}
			card, err := store.Get(testNumber)
			if err != nil {
				t.Error(err)
				return
			}
			card.Transmit([]byte{0x00, 0xB0, 0x95, 0x00, 0x0E})
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("%d blank cards of one number", made)
	}
}

func TestOpenStoreRefusesShortKey(t *testing.T) {
	t.Parallel()
	if _, err := OpenStore(t.TempDir(), testTransport[:8]); err == nil {
		t.Error("accepted")
	}
}
