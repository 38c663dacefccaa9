// Package leak searches what a system wrote for secrets that it must not have written: clear keys, PINs, card numbers, tracks.
//
// A secret is looked for in every form that careless code gives it: as it is, in hex, packed two digits to a byte, in base64 at each
// of the three alignments, as UTF-16, as the list of numbers that Go prints for a slice of bytes, and in some combinations of these.
// A finding names the secret and the form, never its value. What is compressed or enciphered is not looked into.
package leak
