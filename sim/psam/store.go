package psam

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// ErrNoCard says that a store holds no card of this number.
var ErrNoCard = errors.New("no such card in the store")

// ErrCardExists says that a store holds a card of this number already.
var ErrCardExists = errors.New("the store holds this card already")

// Store is a directory of card images. It is safe for concurrent use. A card that came from a store is saved before it
// answers any command that changed its memory. Only one process at a time may use a directory.
type Store struct {
	dir       string
	transport []byte
	mu        sync.Mutex
	cards     map[string]*Card
}

// OpenStore opens a directory, making it when it is missing. The transport key (16 bytes) is what blank cards of this
// store come with.
func OpenStore(dir string, transportKey []byte) (*Store, error) {
	if len(transportKey) != algTDES.keySize() {
		return nil, fmt.Errorf("open card store %s: a transport key has 16 bytes, this one has %d", dir, len(transportKey))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open card store: %w", err)
	}
	return &Store{dir: dir, transport: slices.Clone(transportKey), cards: map[string]*Card{}}, nil
}

// Get returns the card of a number. Every caller gets the same card. The error is ErrNoCard when there is none.
func (s *Store) Get(psamNo string) (*Card, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(psamNo)
}

func (s *Store) get(psamNo string) (*Card, error) {
	if card := s.cards[psamNo]; card != nil {
		return card, nil
	}
	if _, err := packNumber(psamNo); err != nil {
		return nil, err
	}
	card, err := Load(filepath.Join(s.dir, psamNo+imageExt))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("psam %s: %w", psamNo, ErrNoCard)
	}
	if err != nil {
		return nil, err
	}
	if number := card.Number(); number != psamNo {
		return nil, fmt.Errorf("psam %s: the image is that of card %s", psamNo, number)
	}
	s.adopt(card)
	return card, nil
}

// adopt makes the store save the card from now on. The card that it replaces, if any, can no longer change anything:
// two cards of one number must not write one image.
func (s *Store) adopt(card *Card) {
	if old := s.cards[card.Number()]; old != nil && old != card {
		old.mu.Lock()
		old.persist = func(memory) error { return errors.New("the card has been replaced") }
		old.mu.Unlock()
	}
	card.mu.Lock()
	defer card.mu.Unlock()
	card.persist = func(mem memory) error { return saveImage(s.dir, mem) }
	s.cards[card.mem.PSAMNo] = card
}

// Put saves a card and makes it the store's card of its number, in place of any other.
func (s *Store) Put(card *Card) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := card.Save(s.dir); err != nil {
		return err
	}
	s.adopt(card)
	return nil
}

// Blank makes a card of this number as the maker delivers it, and saves it. The error is ErrCardExists when the number
// is taken.
func (s *Store) Blank(psamNo string) (*Card, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch _, err := s.get(psamNo); {
	case err == nil:
		return nil, fmt.Errorf("psam %s: %w", psamNo, ErrCardExists)
	case !errors.Is(err, ErrNoCard):
		return nil, err
	}
	card, err := NewBlank(psamNo, s.transport)
	if err != nil {
		return nil, err
	}
	if err := card.Save(s.dir); err != nil {
		return nil, err
	}
	s.adopt(card)
	return card, nil
}

// List returns the numbers of all cards, in order.
func (s *Store) List() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list card store: %w", err)
	}
	var numbers []string
	for _, entry := range entries {
		number, isImage := strings.CutSuffix(entry.Name(), imageExt)
		if _, err := packNumber(number); isImage && err == nil {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}
