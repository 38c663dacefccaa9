// Package load makes terminal traffic for measurements: terminals whose messages cost the measuring machine almost nothing, and the
// drivers that send them in a closed loop (each terminal again as soon as it is answered) or an open one (at a rate).
//
// A terminal here is the least that a front end accepts as one: it signs on with scheme 003, opens the keys of the answer, and
// makes purchases by card stripe and PIN from a template in which only trace and MAC change. It checks every answer: response
// code, trace and MAC. sim/pos is the terminal that does all the rest. Sources: facts/unionpay.md §1 to §5. Like all simulators it packs its own
// bytes.
package load
