package hsm

import (
	"fmt"
	"testing"
)

// BenchmarkCA sends PIN translations over one pipelined connection, with keys of many terminals in turn. The time of the
// client is in it.
func BenchmarkCA(b *testing.B) { benchmarkCommand(b, 1000, "CA") }

// BenchmarkMAC does the same with UnionPay MACs.
func BenchmarkMAC(b *testing.B) { benchmarkCommand(b, 1000, "M6") }

// BenchmarkCABlock does the same with keys in key blocks.
func BenchmarkCABlock(b *testing.B) { benchmarkCommand(b, 1000, "CA block") }

func benchmarkCommand(b *testing.B, terminals int, name string) {
	d := startDevice(b, Config{})
	zpk := sealed(b, d, typeZPK, "U", "FEDCBA98765432100123456789ABCDEF")
	blockZPK := blockKey(b, d, "72T2E00N00", "FEDCBA98765432100123456789ABCDEF")
	frames := make([][]byte, terminals)
	for i := range frames {
		k := randomKey('U')
		body := "M602010" + typeTAK + sealed(b, d, typeTAK, "U", upperHex(k.clear)) + "00108669012722F217C6"
		if name != "M6" {
			block, _ := sealPIN(k, "01", []byte("1234"), account{twelve: []byte("550000025321")})
			body = "CA" + sealed(b, d, typeTPK, "U", upperHex(k.clear)) + zpk + "12" + upperHex(block) + "0101550000025321"
			if name == "CA block" {
				body = "CA" + blockKey(b, d, "71T2D00N00", upperHex(k.clear)) + blockZPK + "12" + upperHex(block) + "0101550000025321%01"
			}
		}
		frames[i] = frame(fmt.Sprintf("%04d", i), body)
	}
	c := dial(b, d, "all")
	const window = 64 // Commands in flight, about what a host keeps on one channel.
	slots := make(chan struct{}, window)
	b.ResetTimer()
	go func() { // Ends when all is written, which the reads below wait for.
		for i := range b.N {
			slots <- struct{}{}
			c.conn.Write(frames[i%terminals])
		}
	}()
	for range b.N {
		_, body, err := c.receive()
		if err != nil || body[2:4] != "00" {
			b.Fatalf("answer %q: %v", body, err)
		}
		<-slots
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cmd/s")
}
