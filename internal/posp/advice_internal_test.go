package posp

import (
	"bytes"
	"testing"
)

func TestWithoutTrack2(t *testing.T) {
	t.Parallel()
	long := append([]byte{0x9f, 0x10, 0x81, 0x80}, make([]byte, 0x80)...)
	for name, c := range map[string]struct{ in, want string }{
		"nothing":           {"", ""},
		"no track":          {"\x95\x01\x00\x9f\x26\x02\x01\x02", "\x95\x01\x00\x9f\x26\x02\x01\x02"},
		"track alone":       {"\x57\x02\x12\x34", ""},
		"track among":       {"\x95\x01\x00\x57\x02\x12\x34\x82\x01\x07", "\x95\x01\x00\x82\x01\x07"},
		"long form":         {string(long) + "\x57\x01\x99", string(long)},
		"three-byte tag":    {"\x9f\x81\x01\x01\x57\x57\x01\x99", "\x9f\x81\x01\x01\x57"},
		"57 as a value":     {"\x95\x02\x57\x57", "\x95\x02\x57\x57"},
		"runs past the end": {"\x95\x05\x00", ""},
		"no length":         {"\x95", ""},
		"endless tag":       {"\x9f\x81\x81", ""},
		"two-byte length":   {"\x95\x82\x00\x01\x00", ""},
	} {
		if got := withoutTrack2([]byte(c.in)); string(got) != c.want {
			t.Errorf("%s: % x, want % x", name, got, c.want)
		}
	}
}

// FuzzWithoutTrack2: whatever the chip data, what is left is part of it, and no track is left where the walk finds its end.
func FuzzWithoutTrack2(f *testing.F) {
	f.Add([]byte("\x95\x01\x00\x57\x02\x12\x34\x9f\x26\x01\x00"))
	f.Add([]byte("\x9f\x10\x81\x80"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got := withoutTrack2(data)
		if len(got) > len(data) {
			t.Fatalf("% x became longer: % x", data, got)
		}
		if again := withoutTrack2(got); !bytes.Equal(again, got) {
			t.Errorf("% x: the second time % x, the first % x", data, again, got)
		}
	})
}
