package hsmclient

import (
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
)

// sameForm refuses a member whose settings let it work with keys of another form than those of its domain's other members. Nothing
// overrules that: every request on it would fail for its setting. It takes the lock itself.
func (p *pool) sameForm(n *node) error {
	form, ok := n.driver.(driver.KeyFormer)
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.nodes {
		other, ok := o.driver.(driver.KeyFormer)
		if ok && o.name != n.name && other.KeyForm() != form.KeyForm() {
			return member.Refuse(member.Conflict, "correct its settings, or add it to a domain of its own", "member %s would work with %s, but %s of LMK domain %s works with %s",
				n.name, form.KeyForm(), o.name, p.cfg.Name, other.KeyForm())
		}
	}
	return nil
}
