package driver

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// Maker makes a driver from the settings of one member. It refuses a setting that it does not know, and says which it knows.
type Maker func(settings map[string]string) (Driver, error)

// What is known of a request that has no answer. Both stand inside the *command.Error of Channel.Exchange.
var (
	// ErrNotSent says that no byte of the request was handed to the socket: the device cannot have acted on it.
	ErrNotSent = errors.New("request not sent")
	// ErrLost says that the channel ended while the request waited or was under way; Channel.Cause says why.
	ErrLost = errors.New("channel lost")
)

// NotSent says that err is a failure of a request of which the device cannot have seen a byte, so that it may be sent elsewhere
// whatever it is. Everything else that failed may have reached the device.
func NotSent(err error) bool { return errors.Is(err, ErrNotSent) }

// Late is the answer to a request that its caller had given up. The channel has thrown it away; this is for the journal.
type Late struct {
	Command  string        // the host command's letters
	Sent     int           // bytes of the request, without frame
	Received int           // bytes of the answer, without frame
	At       time.Time     // when the request was handed to the channel, which tells it apart from others
	Took     time.Duration // from then to the answer
}

// Target is a device as a driver reaches it.
type Target struct {
	Name string // for errors and logs
	Addr string // host:port, or what the driver makes of it
	TLS  *tls.Config
	// Depth is how many requests the caller wants under way on one channel. A driver gives less where the device cannot tell answers
	// apart.
	Depth int
	// FrameTimeout bounds the rest of an answer whose first byte has come, and one write.
	FrameTimeout time.Duration
	Log          *slog.Logger
	// Late, when not nil, hears of each answer that came after its request was given up. It runs on the reading goroutine, with no lock
	// held, and must return quickly.
	Late func(Late)
}

// Opener makes channels to a device.
type Opener interface {
	// Open connects within ctx; the end of ctx afterwards does not close the channel. A driver that pipelines proves here that the device
	// echoes its labels: Depth of the channel tells the result.
	Open(ctx context.Context, to Target) (Channel, error)
}

// Capable states what a driver can do.
type Capable interface {
	Capabilities() command.Capability
}

// Channel is one connection to a device. It is safe for concurrent use.
type Channel interface {
	// Depth is how many requests may be under way at once: 1 where answers cannot be told apart. A further Exchange waits for a place
	// until its ctx ends. Where answers can be told apart there is one place more than Depth, so that a heartbeat never waits behind work.
	Depth() int
	// Exchange sends one host command and waits for its answer until ctx ends. Its errors are *command.Error of class MemberFault (lost or
	// no answer) or Unavailable (the caller went away, or time was over before a byte was sent); NotSent tells of both whether a byte went
	// out, errors.Is with ErrLost that the channel has ended. A request that is given up after it was sent leaves the channel usable where
	// answers can be told apart, else it ends the channel. Devices that are not asked by bytes return an error.
	Exchange(ctx context.Context, request []byte) ([]byte, error)
	// Done is closed when the channel is lost; Cause then says why. A stray, duplicate or malformed answer closes it: Poisoned is true, and
	// so it is when Close was called with a cause that wraps ErrMalformed.
	Done() <-chan struct{}
	Cause() error
	Poisoned() bool
	// Heard is when anything last came from the device.
	Heard() time.Time
	// Close gives the channel up; what is under way fails at once with cause.
	Close(cause error)
}

// Prober is a driver whose heartbeat command can be chosen per member.
type Prober interface {
	// Probe sends the named command, "" for the default, and says whether the device is alive. It refuses a command that is no safe
	// question.
	Probe(ctx context.Context, on Conversation, name string) error
	// CheckProbe says whether the name can be used, without asking a device.
	CheckProbe(name string) error
}

// KeyFormer says in words in which form keys are under the LMK, as the settings have it. The members of one LMK domain must agree, because
// a key that one of them can use must be of use on all; a driver without this interface is not compared.
type KeyFormer interface {
	KeyForm() string
}

// AddrChecker refuses an address that cannot be one of the family, without asking a device.
type AddrChecker interface {
	CheckAddr(addr string) error
}

// KeyDoubter knows the error codes that a device gives for a key which is not under its LMK: bad parity, a key block that is not
// authentic. They are the caller's fault when the key is bad, and the member's when its LMK is another one; the cluster asks another
// member and examines the one that stands alone.
type KeyDoubter interface {
	DoubtsKey(code string) bool
}

// Resulter reads the result code from an answer, for the journal.
type Resulter interface {
	ResultOf(answer []byte) string
}

// KeyStorer is command.KeyStorer on one device.
type KeyStorer interface {
	StoreKey(ctx context.Context, on Conversation, req command.NewKey) (keys.Wrapped, error)
}

// DataKeyMaker is command.DataKeyMaker on one device.
type DataKeyMaker interface {
	MakeDataKey(ctx context.Context, on Conversation, kek keys.Wrapped) (command.DataKey, error)
	OpenDataKey(ctx context.Context, on Conversation, kek keys.Wrapped, wrapped []byte) (secret.Key, error)
}

// ZoneExchanger is command.ZoneExchanger on one device.
type ZoneExchanger interface {
	ExportUnderZMK(ctx context.Context, on Conversation, zmk, key keys.Wrapped) (command.ZoneKey, error)
	ImportUnderZMK(ctx context.Context, on Conversation, zmk keys.Wrapped, key command.ZoneKey) (keys.Wrapped, error)
}

// LMKTranslator is command.LMKTranslator on one device of the domain to.
type LMKTranslator interface {
	TranslateLMK(ctx context.Context, on Conversation, key keys.Wrapped, to string) (keys.Wrapped, error)
}
