//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	p11 "github.com/miekg/pkcs11"
)

// maxStuck bounds the calls for one token that were given up and have not come back, because each holds a thread. It is twice the channels
// that a member has as a rule. It counts for each token, so that one that hangs takes no other one of the same library with it.
const maxStuck = 12

var errStuck = fmt.Errorf("%d calls for this token hang in the PKCS#11 library already: mend the device, or restart this service when they do not come back", maxStuck)

// libraries are the loaded PKCS#11 libraries by real path. The table belongs to the process, because C_Initialize does: a library that
// serves several members is loaded and initialised once, and finalised when the last of them has let go.
var libraries = struct {
	sync.Mutex // never held while waiting
	byPath     map[string]*library
}{byPath: map[string]*library{}}

// library is one loaded PKCS#11 library.
type library struct {
	path  string
	ready chan struct{} // closed when it is loaded, or err says why not
	gone  chan struct{} // closed when it is unloaded
	ctx   *p11.Ctx      // after ready
	err   error         // after ready
	own   bool          // we have initialised it; after ready

	// guarded by libraries
	users   int  // who opens or uses a session, and calls under way
	closing bool // the last user has gone
	stuck   map[settings]*atomic.Int32
	slots   map[string]uint // where a token was found, by its label
}

// acquire gives the library at path, loading it where nobody has yet. release gives it back.
func acquire(ctx context.Context, path string) (*library, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("the address %q is not the absolute path of a PKCS#11 library", path)
	}
	// dlopen knows files, not names: two names of one file are one library.
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("PKCS#11 library: %w: install it, or put the right path into the member's address", err)
	}
	for {
		l, gone := lookUp(real)
		if l == nil {
			select {
			case <-gone:
				continue
			case <-ctx.Done():
				return nil, fmt.Errorf("wait for the PKCS#11 library %s to be unloaded: %w", path, ctx.Err())
			}
		}
		select {
		case <-l.ready:
			if l.err == nil {
				return l, nil
			}
			l.release()
			return nil, l.err
		case <-ctx.Done():
			l.release()
			return nil, fmt.Errorf("load the PKCS#11 library %s: %w", path, ctx.Err())
		}
	}
}

// lookUp gives the library with one user more, or the sign that the present one is gone.
func lookUp(path string) (*library, <-chan struct{}) {
	libraries.Lock()
	defer libraries.Unlock()
	l := libraries.byPath[path]
	if l == nil {
		l = &library{path: path, ready: make(chan struct{}), gone: make(chan struct{}), stuck: map[settings]*atomic.Int32{}, slots: map[string]uint{}}
		libraries.byPath[path] = l
		go l.load()
	}
	if l.closing {
		return nil, l.gone
	}
	l.users++
	return l, nil
}

// load may hang, like every call into the library; those who wait for it have deadlines.
func (l *library) load() {
	defer close(l.ready)
	l.ctx = p11.New(l.path)
	if l.ctx == nil {
		l.err = fmt.Errorf("the PKCS#11 library %s cannot be loaded: look whether it is one, and made for this machine", l.path)
		return
	}
	// The flag CKF_OS_LOCKING_OK, without which several threads must not call, is the binding's default.
	err := l.ctx.Initialize()
	if resultOf(err) == ckrAlreadyInitialised {
		err = nil // by another part of the process, which then also finalises it
	} else {
		l.own = err == nil
	}
	if err != nil {
		l.err = fmt.Errorf("the PKCS#11 library %s: C_Initialize: %w", l.path, resultOf(err))
	}
}

func (l *library) retain() {
	libraries.Lock()
	defer libraries.Unlock()
	l.users++
}

// stuckOf counts the calls for one token that hang.
func (l *library) stuckOf(s settings) *atomic.Int32 {
	token := settings{token: s.token, slot: s.slot}
	libraries.Lock()
	defer libraries.Unlock()
	if l.stuck[token] == nil {
		l.stuck[token] = new(atomic.Int32)
	}
	return l.stuck[token]
}

func (l *library) slotOf(label string) (slot uint, known bool) {
	libraries.Lock()
	defer libraries.Unlock()
	slot, known = l.slots[label]
	return slot, known
}

func (l *library) setSlot(label string, slot uint) {
	libraries.Lock()
	defer libraries.Unlock()
	l.slots[label] = slot
}

// release may be called on any goroutine; the last one unloads.
func (l *library) release() {
	libraries.Lock()
	defer libraries.Unlock()
	l.users--
	if l.users == 0 {
		l.closing = true
		go l.unload()
	}
}

func (l *library) unload() {
	<-l.ready
	if l.own {
		_ = l.ctx.Finalize() // there is nobody left to whom a refusal would matter
	}
	l.ctx.Destroy()
	libraries.Lock()
	delete(libraries.byPath, l.path)
	libraries.Unlock()
	close(l.gone)
}

// resultOf gives the result inside an error of the binding: OK for none, a general error for what is no result at all.
func resultOf(err error) result {
	var e p11.Error
	switch {
	case err == nil:
		return ckrOK
	case errors.As(err, &e):
		return result(e)
	}
	return ckrGeneralError
}

// run does work, which is calls into the library, on a goroutine of its own: a C call cannot be interrupted. It returns when work does, or
// when ctx ends or lost is closed; then returned is false, err says why, and work goes on alone, counted in stuck. end runs when work has
// returned, late or not. The caller is a user of the library; work is one itself.
func run[T any](ctx context.Context, l *library, stuck *atomic.Int32, lost <-chan struct{}, work func() (T, error), end func(v T, err error, late bool)) (v T, returned bool, err error) {
	type outcome struct {
		v   T
		err error
	}
	back := make(chan outcome, 1)
	var left atomic.Bool // one of the two sides has left; the other one finds it set
	l.retain()
	go func() {
		defer l.release()
		v, err := work()
		back <- outcome{v, err}
		late := left.Swap(true)
		if late {
			stuck.Add(-1)
		}
		end(v, err, late)
	}()
	select {
	case o := <-back:
		return o.v, true, o.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-lost:
		err = errGivenUp
	}
	stuck.Add(1)
	if left.Swap(true) { // it came back at the same moment
		stuck.Add(-1)
		o := <-back
		return o.v, true, o.err
	}
	return v, false, err
}
