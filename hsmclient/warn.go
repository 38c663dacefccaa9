package hsmclient

import "strings"

// warning is what somebody should look at although the member gets work. The caller holds pool.mu, as of all below.
func (n *node) warning() string {
	var all []string
	for _, one := range []string{n.differsWarning()} {
		if one != "" {
			all = append(all, one)
		}
	}
	return strings.Join(all, "; ")
}

func (n *node) differsWarning() string {
	if n.differs == "" {
		return ""
	}
	return "its MACs differ from those of " + n.differs + ": find out which of the two computes wrongly, and fence it"
}
