package bank

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"
)

// BenchmarkPurchase sends purchases with PIN over 16 connections, pipelined. The messages are made before the clock
// starts; an operation is one purchase, checked, booked and answered.
func BenchmarkPurchase(b *testing.B) {
	const connections = 16
	bank := newBank(b, func(c *Config) {
		c.Accounts = []Account{{PAN: card1, PIN: "123456", Balance: maxAmount}}
	})
	key, err := newMACKey(unhex(b, testZAK))
	if err != nil {
		b.Fatal(err)
	}
	withPIN := purchase(1).withPIN(b, "123456")
	clients := make([]*client, connections)
	requests := make([][]byte, connections)
	counts := make([]int, connections)
	for i := range clients {
		clients[i] = signedOn(b, bank)
	}
	for n := range b.N {
		p := purchase(n%1_000_000).with(22, "021", 26, "06", 52, withPIN[52], 53, withPIN[53])
		data := rawMessage("0200", p.with(128, ""))
		sum := key.sum(data)
		data = appendHex(data, binary.BigEndian.Uint64(sum[:]))
		i := n % connections
		requests[i] = append(requests[i], frame(data)...)
		counts[i]++
	}
	b.ReportAllocs()
	b.ResetTimer()
	var work sync.WaitGroup
	for i, c := range clients {
		work.Go(func() {
			if _, err := c.conn.Write(requests[i]); err != nil {
				b.Error(err)
			}
		})
		work.Go(func() {
			if err := countApproved(c.in, counts[i]); err != nil {
				b.Error(err)
			}
		})
	}
	work.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "purchases/s")
	checkBooks(b, bank)
}

// countApproved reads n answers and looks at field 38, which only an approval has: bit 38 of the bitmap.
func countApproved(in *bufio.Reader, n int) error {
	var buf [maxMessage]byte
	for range n {
		if _, err := io.ReadFull(in, buf[:2]); err != nil {
			return err
		}
		size := binary.BigEndian.Uint16(buf[:])
		if _, err := io.ReadFull(in, buf[:size]); err != nil {
			return err
		}
		if word, err := parseBitmap(buf[4:20]); err != nil || word&(1<<(64-38)) == 0 {
			return errors.New("a purchase was not approved")
		}
	}
	return nil
}
