/* A PKCS#11 library for tests: it passes all calls on to the library named in KEYWARD_TEST_MODULE, except where the directory
 * KEYWARD_TEST_FAULTS says otherwise. The file SLOT/C_Function in it holds one word:
 *
 *   hang     the call waits until the file is gone, and is then made
 *   short    the call is made, and its output is half as long as it was
 *   after N  the call is made, and answers N all the same
 *   N        the call is not made, and answers N
 *
 * N is a number as strtoul reads it. Where SLOT/C_Function.count exists, a byte is added to it for every call. Calls without a slot
 * (C_Initialize) have the slot "all". Only the order of the function list is needed here, which all versions 2.x share. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long u;
typedef struct {
	unsigned char major, minor;
	void *f[68];
} list;

enum { /* places in the function list */
	INITIALIZE = 0, FUNCTIONLIST = 3, TOKENINFO = 6, OPEN = 12, CLOSE = 13, LOGIN = 18, DESTROY = 22, ATTRIBUTE = 24, FIND = 27, SIGN = 43,
	VERIFY = 50, GENERATE = 58, WRAP = 60, UNWRAP = 61, RANDOM = 64
};

static list real, ours;
static u slots[1 << 16]; /* by session; SoftHSM2 counts sessions from 1 */

enum { PASS, AFTER, SHORT, ANSWER };

static int fault(const char *slot, const char *name, u *code)
{
	char path[4096], word[64];
	const char *dir = getenv("KEYWARD_TEST_FAULTS");
	FILE *f;
	size_t n;
	snprintf(path, sizeof path, "%s/%s/%s.count", dir, slot, name);
	if (access(path, W_OK) == 0 && (f = fopen(path, "a")) != NULL) {
		fputc('.', f);
		fclose(f);
	}
	snprintf(path, sizeof path, "%s/%s/%s", dir, slot, name);
	for (;;) {
		if ((f = fopen(path, "r")) == NULL)
			return PASS;
		n = fread(word, 1, sizeof word - 1, f);
		fclose(f);
		word[n] = 0;
		if (strncmp(word, "hang", 4) != 0)
			break;
		usleep(2000);
	}
	if (strncmp(word, "short", 5) == 0)
		return SHORT;
	if (strncmp(word, "after ", 6) == 0) {
		*code = strtoul(word + 6, NULL, 0);
		return AFTER;
	}
	*code = strtoul(word, NULL, 0);
	return ANSWER;
}

static int on_slot(u slot, const char *name, u *code)
{
	char text[32];
	snprintf(text, sizeof text, "%lu", slot);
	return fault(text, name, code);
}

static int on_session(u session, const char *name, u *code) { return on_slot(slots[session & 0xFFFF], name, code); }

#define FINISH(how, code, rv, length)                    \
	do {                                             \
		if (how == SHORT && rv == 0 && length)   \
			*(u *)(length) /= 2;             \
		return how == AFTER ? code : rv;         \
	} while (0)

#define CALL(where, index, types, args, length)          \
	u code = 0, rv;                                  \
	int how = where;                                 \
	if (how == ANSWER)                               \
		return code;                             \
	rv = ((u(*) types)real.f[index])args;            \
	FINISH(how, code, rv, length)

static u initialize(void *a) { CALL(fault("all", "C_Initialize", &code), INITIALIZE, (void *), (a), NULL); }
static u token_info(u s, void *i) { CALL(on_slot(s, "C_GetTokenInfo", &code), TOKENINFO, (u, void *), (s, i), NULL); }
static u open_session(u s, u flags, void *app, void *notify, u *h)
{
	u code = 0, rv;
	int how = on_slot(s, "C_OpenSession", &code);
	if (how == ANSWER)
		return code;
	rv = ((u(*)(u, u, void *, void *, u *))real.f[OPEN])(s, flags, app, notify, h);
	if (rv == 0)
		slots[*h & 0xFFFF] = s;
	return how == AFTER ? code : rv;
}
static u close_session(u h) { CALL(on_session(h, "C_CloseSession", &code), CLOSE, (u), (h), NULL); }
static u login(u h, u who, void *pin, u n) { CALL(on_session(h, "C_Login", &code), LOGIN, (u, u, void *, u), (h, who, pin, n), NULL); }
static u destroy(u h, u o) { CALL(on_session(h, "C_DestroyObject", &code), DESTROY, (u, u), (h, o), NULL); }
static u attribute(u h, u o, void *t, u n) { CALL(on_session(h, "C_GetAttributeValue", &code), ATTRIBUTE, (u, u, void *, u), (h, o, t, n), NULL); }
static u find(u h, void *o, u max, void *n) { CALL(on_session(h, "C_FindObjects", &code), FIND, (u, void *, u, void *), (h, o, max, n), NULL); }
static u sign(u h, void *d, u n, void *s, void *m)
{
	u code = 0, rv, rest = 64;
	char junk[64];
	int how = on_session(h, "C_Sign", &code);
	int dropped = how == ANSWER; /* an error ends the operation: the real one is ended by doing it */
	rv = ((u(*)(u, void *, u, void *, void *))real.f[SIGN])(h, d, n, dropped ? junk : s, dropped ? (void *)&rest : m);
	if (dropped)
		return code;
	FINISH(how, code, rv, s ? m : NULL);
}
static u verify(u h, void *d, u n, void *s, u m) { CALL(on_session(h, "C_Verify", &code), VERIFY, (u, void *, u, void *, u), (h, d, n, s, m), NULL); }
static u generate(u h, void *m, void *t, u n, void *k) { CALL(on_session(h, "C_GenerateKey", &code), GENERATE, (u, void *, void *, u, void *), (h, m, t, n, k), NULL); }
static u wrap(u h, void *m, u by, u k, void *w, void *n) { CALL(on_session(h, "C_WrapKey", &code), WRAP, (u, void *, u, u, void *, void *), (h, m, by, k, w, n), w ? n : NULL); }
static u unwrap(u h, void *m, u by, void *w, u n, void *t, u c, void *k)
{
	CALL(on_session(h, "C_UnwrapKey", &code), UNWRAP, (u, void *, u, void *, u, void *, u, void *), (h, m, by, w, n, t, c, k), NULL);
}
static u random_bytes(u h, void *d, u n) { CALL(on_session(h, "C_GenerateRandom", &code), RANDOM, (u, void *, u), (h, d, n), NULL); }

u C_GetFunctionList(list **out);

u C_GetFunctionList(list **out)
{
	list *theirs;
	void *module = dlopen(getenv("KEYWARD_TEST_MODULE"), RTLD_NOW | RTLD_LOCAL);
	u (*get)(list **);
	if (module == NULL || (get = (u(*)(list **))dlsym(module, "C_GetFunctionList")) == NULL || get(&theirs) != 0)
		return 5;
	real = ours = *theirs;
	ours.f[INITIALIZE] = initialize;
	ours.f[FUNCTIONLIST] = C_GetFunctionList;
	ours.f[TOKENINFO] = token_info;
	ours.f[OPEN] = open_session;
	ours.f[CLOSE] = close_session;
	ours.f[LOGIN] = login;
	ours.f[DESTROY] = destroy;
	ours.f[ATTRIBUTE] = attribute;
	ours.f[FIND] = find;
	ours.f[SIGN] = sign;
	ours.f[VERIFY] = verify;
	ours.f[GENERATE] = generate;
	ours.f[WRAP] = wrap;
	ours.f[UNWRAP] = unwrap;
	ours.f[RANDOM] = random_bytes;
	*out = &ours;
	return 0;
}
