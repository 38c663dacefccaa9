package hsmclient_test

import (
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/collectors"
	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// line is the network between cluster and device. What it does to the bytes is the work of toxiproxy.
type line struct {
	t        *testing.T
	server   *toxiproxy.ApiServer
	name     string
	upstream string
	listen   string // fixed after the first start
	proxy    *toxiproxy.Proxy
}

// bitflip is a toxic: it sets the highest bit of one byte in so many. Frames of our devices are text with a length of less than
// 32 K in front, so that no changed byte can pass for another right one.
type bitflip struct {
	Every int64 `json:"every"`
}

// flipped is the state of one connection.
type flipped struct{ seen int64 }

// NewState implements toxics.StatefulToxic.
func (*bitflip) NewState() any { return new(flipped) }

// Pipe implements toxics.Toxic.
func (b *bitflip) Pipe(stub *toxics.ToxicStub) {
	state, _ := stub.State.(*flipped)
	for {
		select {
		case <-stub.Interrupt:
			return
		case c := <-stub.Input:
			if c == nil {
				stub.Close()
				return
			}
			data := append([]byte(nil), c.Data...)
			for i := range data {
				if state.seen++; state.seen%b.Every == 0 {
					data[i] |= 0x80
				}
			}
			stub.Output <- &stream.StreamChunk{Data: data, Timestamp: c.Timestamp}
		}
	}
}

// newToxiproxy makes the server that the proxies belong to; it listens nowhere. Its logger is the empty one, whose type has no name here.
func newToxiproxy() *toxiproxy.ApiServer {
	metrics := toxiproxy.NewMetricsContainer(nil)
	metrics.ProxyMetrics = collectors.NewProxyMetricCollectors()
	return withZero(toxiproxy.NewServer, metrics)
}

func withZero[M, L, R any](make func(M, L) R, m M) R {
	var zero L
	return make(m, zero)
}

func newLine(t *testing.T, server *toxiproxy.ApiServer, name, upstream string) *line {
	t.Helper()
	l := &line{t: t, server: server, name: name, upstream: upstream, listen: "127.0.0.1:0"}
	l.begin()
	t.Cleanup(func() { l.proxy.Stop() })
	return l
}

// begin lets connections through.
func (l *line) begin() {
	l.proxy = toxiproxy.NewProxy(l.server, l.name, l.listen, l.upstream)
	if err := l.proxy.Start(); err != nil {
		l.t.Errorf("line to %s: %v", l.name, err)
		return
	}
	l.listen = l.proxy.Listen
}

// poison adds a toxic to the connections that are there and to new ones.
func (l *line) poison(toxic string) {
	if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		l.t.Errorf("toxic %s: %v", toxic, err)
	}
}

// mend cuts all connections and begins anew without toxics: what is stuck in one never comes out.
func (l *line) mend() {
	l.proxy.Stop()
	l.begin()
}

// toxicFaults are what networks do.
var toxicFaults = []struct {
	what   string
	silent bool
	toxics []string
}{
	{"latency", false, []string{`{"type":"latency","stream":"downstream","attributes":{"latency":15,"jitter":15}}`}},
	{"latency both ways", false, []string{`{"type":"latency","name":"a","stream":"downstream","attributes":{"latency":5,"jitter":5}}`,
		`{"type":"latency","name":"b","stream":"upstream","attributes":{"latency":5,"jitter":5}}`}},
	{"black hole", true, []string{`{"type":"timeout","stream":"downstream","attributes":{"timeout":0}}`}},
	{"black hole upstream", true, []string{`{"type":"timeout","stream":"upstream","attributes":{"timeout":0}}`}},
	{"silence, then close", true, []string{`{"type":"timeout","stream":"downstream","attributes":{"timeout":30}}`}},
	{"reset", false, []string{`{"type":"reset_peer","stream":"downstream","attributes":{"timeout":0}}`}},
	{"reset upstream", false, []string{`{"type":"reset_peer","stream":"upstream","attributes":{"timeout":3}}`}},
	{"cut frames", false, []string{`{"type":"limit_data","stream":"downstream","attributes":{"bytes":333}}`}},
	{"cut requests", false, []string{`{"type":"limit_data","stream":"upstream","attributes":{"bytes":333}}`}},
	{"slow line", false, []string{`{"type":"bandwidth","stream":"downstream","attributes":{"rate":4}}`}},
	{"slices", false, []string{`{"type":"slicer","stream":"downstream","attributes":{"average_size":7,"size_variation":5,"delay":100}}`}},
	{"flipped bits", false, []string{`{"type":"bitflip","stream":"downstream","attributes":{"every":211}}`}},
}

// TestRandomWalkOnBadLines is the random walk over lines that delay, swallow, reset, cut, slow down, slice and corrupt. A corrupted answer
// never passes for a right one, and costs no request.
func TestRandomWalkOnBadLines(t *testing.T) {
	t.Parallel()
	toxics.Register("bitflip", new(bitflip))
	server := newToxiproxy()
	lines := map[string]*line{}
	w := newWalk(t, func(t *testing.T, name, addr string) string {
		lines[name] = newLine(t, server, name, addr)
		return lines[name].listen
	})
	w.slack = 1 << 20 // a flipped bit behind the code of an answer is seen by the driver, not by the journal
	w.breakLine = func(name string) (string, bool, func()) {
		one := toxicFaults[w.pick(len(toxicFaults), func(i int) bool { return toxicFaults[i].silent })]
		for _, toxic := range one.toxics {
			lines[name].poison(toxic)
		}
		return one.what, one.silent, lines[name].mend
	}
	w.steps(*walkOps)
	w.finish()
}
