//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/exchangelog"
	"github.com/keyward/keyward/hsmclient/hsmtest"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

const storageDomain = "storage"

// spec is a token as a member.
func (k token) spec(name string) member.Spec {
	return member.Spec{Name: name, Driver: Name, Addr: lab.module, Channels: 2, Settings: k.settings()}
}

// cluster starts a cluster over members and waits until each of them is what it is to be.
func cluster(tb testing.TB, cfg hsmclient.Config, members ...member.Spec) *hsmclient.Cluster {
	tb.Helper()
	cfg.Domains, cfg.Members, cfg.Drivers = []hsmclient.Domain{{Name: storageDomain}}, members, map[string]driver.Maker{Name: New}
	cfg.Probing = hsmclient.Probing{Every: 100 * time.Millisecond, Timeout: 5 * time.Second, BackoffMin: 20 * time.Millisecond, BackoffMax: 200 * time.Millisecond, AdmitTimes: 2}
	c, err := hsmclient.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			tb.Error(err)
		}
	})
	for _, m := range members {
		await(tb, c, m.Name, member.Working)
	}
	return c
}

// await waits until a member is in one of the states.
func await(tb testing.TB, c *hsmclient.Cluster, name string, want ...member.State) member.Status {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		got, err := c.Member(name)
		if err != nil {
			tb.Fatal(err)
		}
		if slices.Contains(want, got.State) {
			return got
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%s is %s (%s), want %s", name, got.State, got.Reason, want)
		}
	}
}

func inDomain(key keys.Wrapped) keys.Wrapped {
	key.Domain = storageDomain
	return key
}

func TestClusterConformance(t *testing.T) {
	t.Parallel()
	hsmtest.RunStorage(t, func(t *testing.T) hsmtest.StorageFixture {
		return hsmtest.StorageFixture{
			Client: cluster(t, hsmclient.Config{}, newToken(t).spec("token1"), newToken(t).spec("token2")), Domain: storageDomain,
			Wrap: func(t testing.TB, clear secret.Key) keys.Wrapped {
				return inDomain(wrapUnder(t, testLMK, clear.Reveal()))
			},
		}
	})
}

// load asks for MACs under a wrapped key, which every token of the domain can compute, until stop; all of them must be right.
func load(t *testing.T, c *hsmclient.Cluster) (stop func() int) {
	t.Helper()
	in := macOf(inDomain(sealKey(t)))
	want, err := c.MAC(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	var done atomic.Int64
	over := make(chan struct{})
	var working sync.WaitGroup
	for range 4 {
		working.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				got, err := c.MAC(ctx, in)
				cancel()
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("MAC %d: wrong, or %v", done.Load(), err)
					return
				}
				done.Add(1)
			}
		})
	}
	return func() int {
		close(over)
		working.Wait()
		return int(done.Load())
	}
}

// TestClusterLosesAToken: the token is taken out for a while, and its sessions end with it. No request fails, and the member comes back.
func TestClusterLosesAToken(t *testing.T) {
	t.Parallel()
	one, two := newToken(t), newToken(t)
	c := cluster(t, hsmclient.Config{}, one.spec("token1"), two.spec("token2"))
	stop := load(t, c)
	var mend []func()
	// The token says last that it is not there, because setting a fault asks where it is.
	for _, function := range []string{"C_OpenSession", "C_Sign", "C_UnwrapKey", "C_FindObjects", "C_GetTokenInfo"} {
		mend = append(mend, one.fault(t, function, "0xE0"))
	}
	status := await(t, c, "token1", member.Down)
	if !strings.Contains(status.Reason+status.Probing.LastErr, "CKR_TOKEN_NOT_PRESENT") && !strings.Contains(status.Probing.LastErr, one.label) {
		t.Errorf("token1 is down because %q, last error %q", status.Reason, status.Probing.LastErr)
	}
	for _, do := range mend {
		do()
	}
	await(t, c, "token1", member.Standby)
	if n := stop(); n == 0 {
		t.Error("no request was served")
	}
}

// TestClusterTokenHangs: requests under way are asked again on the other token before their time is over.
func TestClusterTokenHangs(t *testing.T) {
	t.Parallel()
	one, two := newToken(t), newToken(t)
	c := cluster(t, hsmclient.Config{Timeout: 300 * time.Millisecond}, one.spec("token1"), two.spec("token2"))
	stop := load(t, c)
	mend := one.fault(t, "C_Sign", "hang")
	await(t, c, "token1", member.Suspect, member.Down)
	mend()
	await(t, c, "token1", member.Working, member.Standby) // as before, or as one that was down
	if n := stop(); n == 0 {
		t.Error("no request was served")
	}
}

// TestClusterTokenDeleted: a token that is gone for good is down, and stays it.
func TestClusterTokenDeleted(t *testing.T) {
	t.Parallel()
	one, two := spoiledToken(t), newToken(t)
	c := cluster(t, hsmclient.Config{}, one.spec("token1"), two.spec("token2"))
	stop := load(t, c)
	status, err := c.Member("token1")
	if err != nil {
		t.Fatal(err)
	}
	deleteToken(t, status.Device.Serial)
	await(t, c, "token1", member.Down)
	if n := stop(); n == 0 {
		t.Error("no request was served")
	}
	if _, err := c.Probe(t.Context(), "token1"); err != nil {
		t.Error(err)
	}
	await(t, c, "token1", member.Down)
}

// TestClusterStoresOnce: without an answer the outcome is unknown, and no other token is asked.
func TestClusterStoresOnce(t *testing.T) {
	t.Parallel()
	tokens := []token{newToken(t), newToken(t)}
	c := cluster(t, hsmclient.Config{Readmit: member.Working}, tokens[0].spec("token1"), tokens[1].spec("token2"))
	var calls []func() int
	for _, k := range tokens {
		calls = append(calls, k.count(t, "C_GenerateKey"))
		k.fault(t, "C_GenerateKey", "after 0x30")
	}
	_, err := c.StoreKey(t.Context(), auditKey("once"))
	wantClass(t, "store", err, command.Unknown, "may be in the token or not")
	if n := calls[0]() + calls[1](); n != 1 {
		t.Errorf("the tokens were asked %d times, want once", n)
	}
	// The name without an id finds it, whichever token has it.
	kcv, err := c.CheckValue(t.Context(), keys.Wrapped{Usage: keys.Seal, Algorithm: keys.AES, Domain: storageDomain, Cryptogram: objectPrefix + "once"})
	if err != nil || len(kcv) != checkDigits {
		t.Errorf("the key that was stored has check value %q, %v", kcv, err)
	}
}

// TestClusterFencesAnotherLMK.
func TestClusterFencesAnotherLMK(t *testing.T) {
	t.Parallel()
	c := cluster(t, hsmclient.Config{}, newToken(t).spec("token1"))
	act := member.Act{By: "test", Force: true}
	if err := c.Add(t.Context(), act, token{"other LMK"}.spec("token2")); err == nil {
		status := await(t, c, "token2", member.Fenced)
		if !strings.Contains(status.Reason, string(kcvOf(t, otherLMK))) {
			t.Errorf("token2 is fenced because %q", status.Reason)
		}
	} else if !strings.Contains(err.Error(), string(kcvOf(t, otherLMK))) {
		t.Errorf("token2 is refused because %v", err)
	}
	stop := load(t, c)
	stop()
}

// notes is a journal in memory.
type notes struct {
	mu   sync.Mutex
	list []exchangelog.Exchange
}

func (n *notes) Record(e exchangelog.Exchange) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, e)
}

// TestClusterJournal: the exchanges with a token stand in the cluster's journal with the names of PKCS#11.
func TestClusterJournal(t *testing.T) {
	t.Parallel()
	var journal notes
	c := cluster(t, hsmclient.Config{Journal: &journal}, newToken(t).spec("token1"))
	in := macOf(inDomain(sealKey(t)))
	if _, err := c.MAC(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	journal.mu.Lock()
	defer journal.mu.Unlock()
	var codes []string
	for _, e := range journal.list {
		if e.For != "mac" {
			continue
		}
		codes = append(codes, e.Command)
		line, err := e.MarshalJSON()
		if err != nil || !bytes.Contains(line, []byte(`"`+e.Command+`"`)) || !bytes.Contains(line, []byte(`"CKR_OK"`)) {
			t.Errorf("the line %s, %v", line, err)
		}
		if e.Member != "token1" || e.Channel == 0 || e.Command == codeSign && (e.Sent != len(in.Data) || e.Received != aesBlock) {
			t.Errorf("journalled %+v", e)
		}
	}
	if got := strings.Join(codes, " "); got != "C_UnwrapKey C_Sign C_DestroyObject" {
		t.Errorf("a MAC is journalled as %q", got)
	}
}

// TestClusterAsksForMore: a domain for payments refuses the driver.
func TestClusterAsksForMore(t *testing.T) {
	t.Parallel()
	_, err := hsmclient.New(hsmclient.Config{
		Domains: []hsmclient.Domain{{Name: storageDomain, Needs: command.CanMAC | command.CanTranslatePIN}}, Drivers: map[string]driver.Maker{Name: New},
		Members: []member.Spec{{Name: "token1", Driver: Name, Addr: "/no/such.so", Settings: token{"a"}.settings()}},
	})
	if err == nil || !strings.Contains(err.Error(), "translate PINs") {
		t.Errorf("got %v", err)
	}
}
