// Package wire is one framed connection to an HSM whose host commands travel in frames with a length in front (facts/hsm.md §1.1).
// It implements driver.Channel for the drivers of such devices.
//
//	length 2 · header · command and fields · [% and LMK id] · [X'19' and trailer]
//
// Requests are pipelined: the header is a label by which answers find their requests, and the trailer is a second label, so that an
// answer with another request's header is found out. Where a device does not give labels back, one request is under way at a time.
//
// A Channel is one connection and never a second one: when it ends, it stays ended. It is exact about what was sent, because that
// decides what may be sent again. What comes from the device is hostile until proven otherwise: an answer that belongs to no
// request ends the channel, and never reaches another request.
package wire
