package hsmclient

import "github.com/keyward/keyward/hsmclient/command"

// operation is a capability's method as metrics, journal and early errors name it.
type operation uint8

const (
	opMakeWorkKey operation = iota
	opTranslatePIN
	opMAC
	opVerifyMAC
	opDecryptTrack
	opDiversify
	opExportForCard
	opCheckValue
	opRandom
	opDiagnose
	opStoreKey
	opMakeDataKey
	opOpenDataKey
	opExportUnderZMK
	opImportUnderZMK
	opTranslateLMK
	operations // their number
)

// trait is what the engine must know of an operation.
type trait struct {
	name  string
	needs command.Capability
	class command.Priority // in the queue, unless the caller says otherwise
	// once says that the device keeps something, so that it is never sent twice (facts/hsm.md §6, point 7). Everything else leaves
	// nothing behind; of a key that was made twice the lost one is dropped.
	once bool
}

var traits = [operations]trait{
	opMakeWorkKey:    {name: "make_work_key", needs: command.CanMakeWorkKey, class: command.SignOn},
	opTranslatePIN:   {name: "translate_pin", needs: command.CanTranslatePIN, class: command.Transaction},
	opMAC:            {name: "mac", needs: command.CanMAC, class: command.Transaction},
	opVerifyMAC:      {name: "verify_mac", needs: command.CanMAC, class: command.Transaction},
	opDecryptTrack:   {name: "decrypt_track", needs: command.CanDecryptTrack, class: command.Transaction},
	opDiversify:      {name: "diversify", needs: command.CanDiversify, class: command.SignOn},
	opExportForCard:  {name: "export_for_card", needs: command.CanExportForCard, class: command.SignOn},
	opCheckValue:     {name: "check_value", needs: command.CanCheck, class: command.Transaction},
	opRandom:         {name: "random", needs: command.CanRandom, class: command.Transaction},
	opDiagnose:       {name: "diagnose", class: command.Transaction},
	opStoreKey:       {name: "store_key", needs: command.CanStoreKey, class: command.Transaction, once: true},
	opMakeDataKey:    {name: "make_data_key", needs: command.CanDataKey, class: command.Transaction},
	opOpenDataKey:    {name: "open_data_key", needs: command.CanDataKey, class: command.Transaction},
	opExportUnderZMK: {name: "export_under_zmk", needs: command.CanExchangeZone, class: command.Transaction},
	opImportUnderZMK: {name: "import_under_zmk", needs: command.CanExchangeZone, class: command.Transaction},
	opTranslateLMK:   {name: "translate_lmk", needs: command.CanTranslateLMK, class: command.Transaction},
}

// String gives the name.
func (o operation) String() string { return traits[o].name }
