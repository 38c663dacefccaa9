// Package drill takes a member of a running HSM cluster out in a chosen way, watches what that does to the requests of others, puts the
// member back and reports (row X5). The fault is simulated on our side of the line (member.Fault): the device itself is not touched.
//
// A drill is safe by construction. It is refused when it would take the last working member or when the rest could not carry the
// load; one runs at a time; the fault has an end that the cluster keeps by itself; and the member is put back at once when an operator stops
// the drill, when the operator's connection is gone, when requests fail, and when another member fails for real.
package drill
