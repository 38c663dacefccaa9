package psam

import "slices"

// fileID is a two-byte file identifier.
type fileID uint16

const (
	masterFile  fileID = 0x3F00
	application fileID = 0xDF01
	cardInfo    fileID = 0x0015 // serial 10 | version 1 | key-card type 1 | FCI data 2
	terminalNo  fileID = 0x0016 // terminal number 6
	appInfo     fileID = 0x0017 // purchase-key index 1 | issuer 8 | receiver 8 | start 4 | expiry 4
	sequenceNo  fileID = 0x0018 // terminal transaction sequence 4, written by the card alone
)

// Usage bytes of keys: low 5 bits type, high 3 bits levels (facts/psam.md §2.4).
const (
	usageControl     byte = 0x00
	usageMaintenance byte = 0x01
	usagePurchase    byte = 0x02
	usageMAC         byte = 0x06
	usageEncrypt     byte = 0x07
	usageBoth        byte = 0x08
	usageTMK         byte = 0x10 // ours, from the reserved range 09-1F: terminal master key, unwrap only
	usageTypeMask    byte = 0x1F
)

// maxTries is how many wrong MACs in a row a key survives (facts/psam.md §2.4, example key file: error counter 3).
const maxTries = 3

// keyRecord is a key of the key file of a DF. Keys are found by DF, usage and id.
type keyRecord struct {
	DF    fileID    `json:"df"`
	Usage byte      `json:"usage"`
	ID    byte      `json:"id"`
	Alg   algorithm `json:"alg"`
	Tries int       `json:"tries"`
	Value []byte    `json:"value"`
}

// workKey is a work key in a record of the application (facts/psam.md §4, records 11 to 13).
type workKey struct {
	Record byte      `json:"record"`
	Alg    algorithm `json:"alg"`
	Value  []byte    `json:"value"`
}

// memory is the non-volatile part of a card: what an image holds.
type memory struct {
	PSAMNo   string            `json:"psam_no"`
	Files    map[fileID][]byte `json:"files"`
	Keys     []keyRecord       `json:"keys"`
	Work     []workKey         `json:"work"`
	Sequence uint32            `json:"sequence"`
	Profile  Profile           `json:"profile"`
}

// blankFiles are the files of a card that left the maker.
func blankFiles(serial []byte) map[fileID][]byte {
	// Version, type and FCI bytes are those of the real read trace in facts/psam.md §2.1.
	info := append(append([]byte(nil), serial...), 0x01, 0x01, 0x01, 0x01)
	return map[fileID][]byte{cardInfo: info, terminalNo: make([]byte, 6), appInfo: make([]byte, 25)}
}

// clone copies what commands change. Key values and file contents are replaced and never written in place.
func (m memory) clone() memory {
	files := make(map[fileID][]byte, len(m.Files))
	for id, content := range m.Files {
		files[id] = content
	}
	m.Files = files
	m.Keys = slices.Clone(m.Keys)
	m.Work = slices.Clone(m.Work)
	return m
}

// key returns the stored record, not a copy, or nil.
func (m *memory) key(df fileID, usage, id byte) *keyRecord {
	for i := range m.Keys {
		if k := &m.Keys[i]; k.DF == df && k.Usage == usage && k.ID == id {
			return k
		}
	}
	return nil
}

// controlKey is the control key of a DF. A DF has one, whatever its id.
func (m *memory) controlKey(df fileID) *keyRecord {
	for i := range m.Keys {
		if k := &m.Keys[i]; k.DF == df && k.Usage == usageControl {
			return k
		}
	}
	return nil
}

// putKey adds a key or replaces the one of the same DF, usage and id. A new control key replaces the old one also when
// the id changes.
func (m *memory) putKey(record keyRecord) {
	record.Value = slices.Clone(record.Value)
	old := m.key(record.DF, record.Usage, record.ID)
	if record.Usage == usageControl {
		old = m.controlKey(record.DF)
	}
	if old != nil {
		*old = record
		return
	}
	m.Keys = append(m.Keys, record)
}

// workKey returns the key of a record, or nil.
func (m *memory) workKey(record byte) *workKey {
	for i := range m.Work {
		if m.Work[i].Record == record {
			return &m.Work[i]
		}
	}
	return nil
}
