package postgres

import "testing"

func TestNewestFirst(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pattern, dir string
		want         int
	}{
		{"/usr/lib/postgresql/*/bin", "/usr/lib/postgresql/15/bin", 15},
		{"/opt/homebrew/opt/postgresql*/bin", "/opt/homebrew/opt/postgresql@16/bin", 16},
		{"/opt/homebrew/opt/postgresql*/bin", "/opt/homebrew/opt/postgresql/bin", 0},
		{"/x64/cache/*/native/bin", "/x64/cache/18.4.0-beta.17-linux-x64/native/bin", 18},
		{"/Applications/Postgres.app/Contents/Versions/*/bin", "/Applications/Postgres.app/Contents/Versions/latest/bin", 0},
	} {
		if got := numberIn(test.dir, test.pattern); got != test.want {
			t.Errorf("numberIn(%q) = %d, want %d", test.dir, got, test.want)
		}
	}
}

func TestVersionText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": "15",
		"postgres (PostgreSQL) 18.4\n":                           "18",
		"postgres (PostgreSQL) 19beta1\n":                        "19",
	} {
		if match := versionText.FindStringSubmatch(text); match == nil || match[2] != want {
			t.Errorf("%q: %q", text, match)
		}
	}
}
