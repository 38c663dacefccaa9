package posp

import (
	"sync"
	"time"
)

const (
	// keptEvents is how many events a new listener gets at once: a screenful.
	keptEvents = 100
	// eventQueue bounds what a slow listener may lag behind; beyond it events are dropped for that listener alone.
	eventQueue = 256
	// maxListeners bounds the open event streams.
	maxListeners = 32
)

// Event is one message as operators see it: no key, no PIN, no full card number.
type Event struct {
	At       time.Time     `json:"at"`
	Kind     string        `json:"kind"`
	Terminal string        `json:"terminal"`
	Trace    string        `json:"trace,omitempty"`
	Amount   int64         `json:"amount,omitempty"`
	Card     string        `json:"card,omitempty"`
	Code     string        `json:"code"`
	RRN      string        `json:"rrn,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Took     time.Duration `json:"took_ns"`
}

// Events hands the latest events to whoever watches.
type Events struct {
	mu        sync.Mutex
	recent    []Event
	listeners map[chan Event]struct{}
}

func newEvents() *Events { return &Events{listeners: map[chan Event]struct{}{}} }

func (e *Events) publish(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.recent) == keptEvents {
		copy(e.recent, e.recent[1:])
		e.recent = e.recent[:keptEvents-1]
	}
	e.recent = append(e.recent, event)
	for l := range e.listeners {
		select {
		case l <- event:
		default:
		}
	}
}

// Listen gives the latest events, oldest first, a channel of all after them, and the function that ends it; ok is false when too many
// listen.
func (e *Events) Listen() (recent []Event, events <-chan Event, end func(), ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.listeners) >= maxListeners {
		return nil, nil, nil, false
	}
	l := make(chan Event, eventQueue)
	e.listeners[l] = struct{}{}
	return append([]Event(nil), e.recent...), l, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.listeners, l)
	}, true
}
