package hsmclient

import "strings"

// warning is what somebody should look at although the member gets work. The caller holds pool.mu, as of all below.
func (n *node) warning() string {
	var all []string
	for _, one := range []string{n.differsWarning(), n.refusedWarning(), n.twinWarning()} {
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

// twin finds another member of the domain on the same device, by its serial number.
func (n *node) twin(serial string) *node {
	for _, o := range n.pool.nodes {
		if serial != "" && o.name != n.name && o.device.Serial == serial {
			return o
		}
	}
	return nil
}

func (n *node) twinWarning() string {
	o := n.twin(n.device.Serial)
	if o == nil {
		return ""
	}
	return "it is the same device as " + o.name + " (serial number " + n.device.Serial + "), which fails with it and is no more capacity: remove one of the two"
}
