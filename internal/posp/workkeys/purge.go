package workkeys

import (
	"context"
	"fmt"
	"time"
)

const (
	// keepUnused is how long a set that no message ever used is kept: anybody can send sign-ons, so these rows must not pile up. Who looks
	// for a terminal that signs on again and again looks at the last days.
	keepUnused = 48 * time.Hour
	// keepUsed is how long the record of a set that was in use is kept: the year and a month that auditors ask for.
	keepUsed = 400 * 24 * time.Hour
	// purgeTimeout bounds one purge; what is left is for the next.
	purgeTimeout = time.Minute
)

// Purge removes sets that are over and old enough. The newest set of each terminal stays whatever its age, because version and batch
// number count on from it. It returns how many went.
func (k *Keeper) Purge(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	now := k.now()
	tag, err := k.pool.Exec(ctx, `
DELETE FROM work_keys w
 WHERE (w.state IN ('ended', 'expired') OR w.state = 'pending' AND w.expires_at < $1)
   AND w.made_at < CASE WHEN w.first_used_at IS NULL THEN $1 ELSE $2 END
   AND EXISTS (SELECT FROM work_keys n WHERE n.terminal_id = w.terminal_id AND n.version > w.version)`, now.Add(-keepUnused), now.Add(-keepUsed))
	if err != nil {
		return 0, fmt.Errorf("remove old working keys: %w", err)
	}
	return tag.RowsAffected(), nil
}
