package wire

import (
	"errors"
	"fmt"
)

// Config is how a device frames its host commands.
type Config struct {
	// HeaderLength is the number of characters in front of every command, 0 to 255: a setting of the device, factory value 4.
	HeaderLength int
	// BareLength says that the length field counts command and fields only, without the header (some old host interfaces).
	BareLength bool
	// Echo says that the device gives the header back, so that requests can be pipelined. Open proves it.
	Echo bool
	// Trailer adds a second label behind X'19'; only with Echo.
	Trailer bool
	// Suffix stands behind the fields of every command, for example "%01", the id of an LMK.
	Suffix string
	// Probe is a harmless command without fields, for the proof.
	Probe string
}

// Limits of the frame.
const (
	maxHeader = 255
	// maxRequest is the longest request, which is the largest buffer of the devices (facts/hsm.md §1.1).
	maxRequest = 32 * 1024
	// maxFrame is the longest frame that is read: a whole buffer with header and trailer around it.
	maxFrame = maxRequest + maxHeader + 33
	// lengthSize is the size of the length in front: 2 bytes, big-endian.
	lengthSize = 2
	// trailerMark begins a trailer (facts/hsm.md §1.1).
	trailerMark = 0x19
)

func (c Config) check() error {
	switch {
	case c.HeaderLength < 0 || c.HeaderLength > maxHeader:
		return fmt.Errorf("header length %d is not 0 to %d", c.HeaderLength, maxHeader)
	case c.Echo && c.HeaderLength == 0:
		return errors.New("labels cannot be echoed in a header of length 0")
	case c.Trailer && !c.Echo:
		return errors.New("a trailer is of use only where labels are echoed")
	case c.Probe == "":
		return errors.New("no probe command given")
	}
	return nil
}
