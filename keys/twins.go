package keys

// Twins is one key as several LMK domains hold it, the preferred one first (C7): while keys move from one domain to another, a command
// must find all its keys in the same one.
type Twins []Wrapped

// In gives the key as a domain holds it; false when it is not there.
func (t Twins) In(domain string) (Wrapped, bool) {
	for _, k := range t {
		if k.Domain == domain {
			return k, true
		}
	}
	return Wrapped{}, false
}

// Domains lists the domains, the preferred one first.
func (t Twins) Domains() []string {
	names := make([]string, len(t))
	for i, k := range t {
		names[i] = k.Domain
	}
	return names
}
