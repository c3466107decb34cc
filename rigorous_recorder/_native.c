/* What is done for every record, in C: `add_record` as in `adding.py`, for plain scalars, and the walk of `store/replay.py`.

Optional: whatever it does not take (other types, long records, a full block, values that are pending in part) it hands to
the methods in Python, which are the reference. Everything here runs under the GIL, calls no Python code between the look
at `pos` and the mark, and so cannot be interrupted.

MessagePack: https://github.com/msgpack/msgpack/blob/master/spec.md, in the shortest forms, byte for byte what msgspec writes.
*/
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

#define SHORT_MAX 239 /* of store/unit.py: the longest record behind a one-byte header */
#define SWITCH_SIZE 5

/* ---- Cursor: where in which memory the next entry goes ---------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *map;     /* what Python code sees; its bytes are in `view` while it is not None */
    Py_buffer view;    /* view.obj is NULL while there is no memory */
    Py_ssize_t pos;
    Py_ssize_t limit;
    PyObject *keeper;
    PyObject *token;
} Cursor;

static PyTypeObject *cursor_type;

static PyObject *
cursor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Cursor *self = (Cursor *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->map = Py_NewRef(Py_None);
        self->keeper = Py_NewRef(Py_None);
        self->token = Py_NewRef(Py_None);
    }
    return (PyObject *)self;
}

static int
cursor_traverse(Cursor *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->map);
    Py_VISIT(self->view.obj);
    Py_VISIT(self->keeper);
    Py_VISIT(self->token);
    return 0;
}

static int
cursor_clear(Cursor *self)
{
    if (self->view.obj != NULL)
        PyBuffer_Release(&self->view);
    Py_CLEAR(self->map);
    Py_CLEAR(self->keeper);
    Py_CLEAR(self->token);
    return 0;
}

static void
cursor_dealloc(Cursor *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    cursor_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
cursor_get_map(Cursor *self, void *closure)
{
    return Py_NewRef(self->map == NULL ? Py_None : self->map);
}

static int
cursor_set_map(Cursor *self, PyObject *value, void *closure)
{
    Py_buffer view, before = self->view;
    PyObject *map = self->map;

    view.obj = NULL;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "map cannot be deleted");
        return -1;
    }
    if (value != Py_None && PyObject_GetBuffer(value, &view, PyBUF_WRITABLE) < 0)
        return -1;
    self->view = view;
    self->map = Py_NewRef(value);
    if (before.obj != NULL)
        PyBuffer_Release(&before); /* a map that is exported cannot be closed */
    Py_XDECREF(map);
    return 0;
}

PyDoc_STRVAR(put_here_doc,
"put_here($self, kind, payload, token)\n--\n\n"
"Put an entry of a kind from 240 on where the cursor stands; False when it does not fit, or another unit than `token` is\n"
"current.");

static PyObject *
cursor_put_here(Cursor *self, PyObject *const *args, Py_ssize_t nargs)
{
    long kind;
    Py_ssize_t size;
    uint8_t *at;

    if (nargs != 3 || !PyBytes_CheckExact(args[1]) || PyBytes_GET_SIZE(args[1]) > UINT32_MAX) {
        PyErr_SetString(PyExc_TypeError, "put_here takes a kind, a payload of bytes, and a token");
        return NULL;
    }
    kind = PyLong_AsLong(args[0]);
    if (kind <= SHORT_MAX || kind > UINT8_MAX) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a kind is a number from 240 to 255");
        return NULL;
    }
    size = PyBytes_GET_SIZE(args[1]);
    if (self->view.obj == NULL || (args[2] != Py_None && args[2] != self->token) || self->pos + 5 + size > self->limit)
        Py_RETURN_FALSE;
    at = (uint8_t *)self->view.buf + self->pos;
    for (int byte = 0; byte < 4; byte++)
        at[1 + byte] = (uint8_t)((uint64_t)size >> (8 * byte));
    memcpy(at + 5, PyBytes_AS_STRING(args[1]), (size_t)size);
    __atomic_store_n(at, (uint8_t)kind, __ATOMIC_RELEASE);
    self->pos += 5 + size;
    Py_RETURN_TRUE;
}

static PyMethodDef cursor_methods[] = {
    {"put_here", (PyCFunction)(void (*)(void))cursor_put_here, METH_FASTCALL, put_here_doc},
    {NULL},
};

static PyGetSetDef cursor_getset[] = {
    {"map", (getter)cursor_get_map, (setter)cursor_set_map, NULL, NULL},
    {NULL},
};

static PyMemberDef cursor_members[] = {
    {"pos", T_PYSSIZET, offsetof(Cursor, pos), 0, NULL},
    {"limit", T_PYSSIZET, offsetof(Cursor, limit), 0, NULL},
    {"keeper", T_OBJECT_EX, offsetof(Cursor, keeper), 0, NULL},
    {"token", T_OBJECT_EX, offsetof(Cursor, token), 0, NULL},
    {NULL},
};

static PyType_Slot cursor_slots[] = {
    {Py_tp_doc, "Where in which memory the next entry goes."},
    {Py_tp_new, cursor_new},
    {Py_tp_dealloc, cursor_dealloc},
    {Py_tp_traverse, cursor_traverse},
    {Py_tp_clear, cursor_clear},
    {Py_tp_methods, cursor_methods},
    {Py_tp_getset, cursor_getset},
    {Py_tp_members, cursor_members},
    {0, NULL},
};

static PyType_Spec cursor_spec = {
    "rigorous_recorder._native.Cursor", sizeof(Cursor), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    cursor_slots,
};

/* The entry of one short record at the cursor. 0: it does not fit, or this unit does not define the keeper's level. */
static int
cursor_put(Cursor *cursor, PyObject *keeper, PyObject *token, PyObject *change, const uint8_t *payload, size_t size)
{
    uint8_t *at;
    size_t head = 1;

    if (cursor->view.obj == NULL)
        return 0;
    at = (uint8_t *)cursor->view.buf + cursor->pos;
    if (cursor->keeper == keeper) {
        if (cursor->pos + (Py_ssize_t)(1 + size) > cursor->limit)
            return 0;
    }
    else {
        if (token == NULL || token == Py_None || token != cursor->token || change == NULL || !PyBytes_CheckExact(change)
            || PyBytes_GET_SIZE(change) != SWITCH_SIZE || size + SWITCH_SIZE > SHORT_MAX
            || cursor->pos + (Py_ssize_t)(1 + SWITCH_SIZE + size) > cursor->limit)
            return 0;
        memcpy(at + 1, PyBytes_AS_STRING(change), SWITCH_SIZE);
        head += SWITCH_SIZE;
    }
    memcpy(at + head, payload, size);
    /* the mark last: a process that is killed in between has stored nothing */
    __atomic_store_n(at, (uint8_t)(head - 1 + size), __ATOMIC_RELEASE);
    cursor->pos += (Py_ssize_t)(head + size);
    if (head > 1) {
        PyObject *before = cursor->keeper;
        cursor->keeper = Py_NewRef(keeper);
        Py_XDECREF(before); /* may run a finalizer, which may record: all is in place */
    }
    return 1;
}

/* ---- MessagePack ------------------------------------------------------------------------------------------------- */

/* Each gives the place behind what it wrote, or NULL when there is no room or it is no plain scalar. */

static inline uint8_t *
put_number(uint8_t *at, uint8_t code, uint64_t number, int bytes)
{
    *at++ = code;
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
        *at++ = (uint8_t)(number >> shift);
    return at;
}

static uint8_t *
put_text(uint8_t *at, const uint8_t *end, PyObject *value)
{
    Py_ssize_t size;
    const char *text;

    if (PyUnicode_IS_COMPACT_ASCII(value)) {
        text = (const char *)PyUnicode_1BYTE_DATA(value);
        size = PyUnicode_GET_LENGTH(value);
    }
    else {
        text = PyUnicode_AsUTF8AndSize(value, &size);
        if (text == NULL) {
            PyErr_Clear(); /* a lone surrogate: Python says so */
            return NULL;
        }
    }
    if (size > SHORT_MAX || end - at < size + 2)
        return NULL;
    if (size < 32)
        *at++ = (uint8_t)(0xa0 | size);
    else {
        *at++ = 0xd9;
        *at++ = (uint8_t)size;
    }
    memcpy(at, text, (size_t)size);
    return at + size;
}

static uint8_t *
put_int(uint8_t *at, PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);

    if (overflow) {
        unsigned long long large = overflow > 0 ? PyLong_AsUnsignedLongLong(value) : 0;
        if (overflow < 0 || PyErr_Occurred()) {
            PyErr_Clear();
            return NULL;
        }
        return put_number(at, 0xcf, large, 8);
    }
    if (number >= 0) {
        if (number < 0x80) {
            *at++ = (uint8_t)number;
            return at;
        }
        if (number <= UINT8_MAX)
            return put_number(at, 0xcc, (uint64_t)number, 1);
        if (number <= UINT16_MAX)
            return put_number(at, 0xcd, (uint64_t)number, 2);
        if (number <= UINT32_MAX)
            return put_number(at, 0xce, (uint64_t)number, 4);
        return put_number(at, 0xcf, (uint64_t)number, 8);
    }
    if (number >= -32) {
        *at++ = (uint8_t)(int8_t)number;
        return at;
    }
    if (number >= INT8_MIN)
        return put_number(at, 0xd0, (uint64_t)number, 1);
    if (number >= INT16_MIN)
        return put_number(at, 0xd1, (uint64_t)number, 2);
    if (number >= INT32_MIN)
        return put_number(at, 0xd2, (uint64_t)number, 4);
    return put_number(at, 0xd3, (uint64_t)number, 8);
}

static uint8_t *
put_float(uint8_t *at, double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return put_number(at, 0xcb, bits, 8);
}

static uint8_t *
put_value(uint8_t *at, const uint8_t *end, PyObject *value)
{
    if (end - at < 9)
        return NULL;
    if (PyFloat_CheckExact(value))
        return put_float(at, PyFloat_AS_DOUBLE(value));
    if (PyLong_CheckExact(value))
        return put_int(at, value);
    if (PyUnicode_CheckExact(value))
        return put_text(at, end, value);
    if (value == Py_True || value == Py_False) {
        *at++ = value == Py_True ? 0xc3 : 0xc2;
        return at;
    }
    if (value == Py_None) {
        *at++ = 0xc0;
        return at;
    }
    if (PyFloat_Check(value) && strcmp(Py_TYPE(value)->tp_name, "numpy.float64") == 0)
        return put_float(at, PyFloat_AS_DOUBLE(value)); /* what `.item()` gives, without the call */
    return NULL;
}

static inline uint8_t *
put_item(uint8_t *at, const uint8_t *end, PyObject *key, PyObject *value)
{
    if (!PyUnicode_CheckExact(key) || (at = put_text(at, end, key)) == NULL)
        return NULL;
    return put_value(at, end, value);
}

/* ---- Adder: who adds records ------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *journal;  /* a Cursor */
    PyObject *token;    /* of the unit that defines the level and notes which values are times */
    PyObject *defined;  /* of the unit that defines the level */
    PyObject *change;   /* five bytes that change the level in force to this one */
    PyObject *pendings; /* each thread's pending record, or None */
    PyObject *pending;  /* that of the thread which asked last */
    uint64_t thread;    /* that thread; its id is never used again, unlike the system's */
} Adder;

static PyObject *name_add, *name_commit, *name_pending;

static PyObject *
adder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Adder *self = (Adder *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->token = Py_NewRef(Py_None);
        self->defined = Py_NewRef(Py_None);
        self->pendings = Py_NewRef(Py_None);
    }
    return (PyObject *)self;
}

static int
adder_traverse(Adder *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->journal);
    Py_VISIT(self->token);
    Py_VISIT(self->defined);
    Py_VISIT(self->pendings);
    Py_VISIT(self->pending);
    return 0;
}

static int
adder_clear(Adder *self)
{
    Py_CLEAR(self->journal);
    Py_CLEAR(self->token);
    Py_CLEAR(self->defined);
    Py_CLEAR(self->change);
    Py_CLEAR(self->pendings);
    Py_CLEAR(self->pending);
    return 0;
}

static void
adder_dealloc(Adder *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    adder_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
adder_get_journal(Adder *self, void *closure)
{
    if (self->journal == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_journal");
        return NULL;
    }
    return Py_NewRef(self->journal);
}

static int
adder_set_journal(Adder *self, PyObject *value, void *closure)
{
    if (value == NULL || !PyObject_TypeCheck(value, cursor_type)) {
        PyErr_SetString(PyExc_TypeError, "_journal is a Cursor");
        return -1;
    }
    Py_XSETREF(self->journal, Py_NewRef(value));
    return 0;
}

static PyObject *
adder_get_pendings(Adder *self, void *closure)
{
    return Py_NewRef(self->pendings == NULL ? Py_None : self->pendings);
}

static int
adder_set_pendings(Adder *self, PyObject *value, void *closure)
{
    Py_XSETREF(self->pendings, Py_XNewRef(value));
    self->thread = 0;
    Py_CLEAR(self->pending);
    return 0;
}

/* The pending record of this thread, borrowed; NULL when it is not at hand. */
static inline PyObject *
adder_at_hand(Adder *self)
{
    return self->pending != NULL && self->thread == PyThreadState_GetID(PyThreadState_Get()) ? self->pending : NULL;
}

static PyObject *
adder_get_pending(Adder *self, void *closure)
{
    PyObject *pending = adder_at_hand(self);
    if (pending != NULL)
        return Py_NewRef(pending);
    pending = PyObject_CallMethodNoArgs((PyObject *)self, name_pending);
    if (pending != NULL && PyDict_Check(pending)) {
        self->thread = PyThreadState_GetID(PyThreadState_Get());
        Py_XSETREF(self->pending, Py_NewRef(pending));
    }
    return pending;
}

/* Whether this thread has values pending that an add has to include, or may have. */
static inline int
adder_has_pending(Adder *self)
{
    PyObject *pending;
    if (self->pendings == Py_None)
        return 0;
    pending = adder_at_hand(self);
    return pending == NULL || PyDict_GET_SIZE(pending) > 0;
}

/* Add a dict, or keywords (names, values), as one record. 0: it is left to Python. */
static int
adder_put(Adder *self, PyObject *record, PyObject *names, PyObject *const *values)
{
    uint8_t buffer[SHORT_MAX];
    uint8_t *at = buffer;
    const uint8_t *end = buffer + SHORT_MAX;
    Cursor *cursor;
    Py_ssize_t count = record != NULL ? PyDict_GET_SIZE(record) : PyTuple_GET_SIZE(names);

    if (self->journal == NULL || count > SHORT_MAX / 2)
        return 0;
    if (count < 16)
        *at++ = (uint8_t)(0x80 | count);
    else
        at = put_number(at, 0xde, (uint64_t)count, 2);
    if (record != NULL) {
        Py_ssize_t place = 0;
        PyObject *key, *value;
        while (PyDict_Next(record, &place, &key, &value))
            if ((at = put_item(at, end, key, value)) == NULL)
                return 0;
    }
    else
        for (Py_ssize_t place = 0; place < count; place++)
            if ((at = put_item(at, end, PyTuple_GET_ITEM(names, place), values[place])) == NULL)
                return 0;
    cursor = (Cursor *)self->journal;
    if (self->token != cursor->token && self->defined == cursor->token && self->defined != NULL)
        Py_XSETREF(self->token, Py_NewRef(self->defined)); /* plain scalars need no note, nor do they need one later */
    return cursor_put(cursor, (PyObject *)self, self->token, self->change, buffer, (size_t)(at - buffer));
}

static PyObject *
adder_in_python(Adder *self, PyObject *name, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    PyObject *result, *method = PyObject_GetAttr((PyObject *)self, name);
    if (method == NULL)
        return NULL;
    result = PyObject_Vectorcall(method, args, (size_t)nargs, names);
    Py_DECREF(method);
    return result;
}

static PyObject *
adder_add_record(Adder *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    if (!adder_has_pending(self)) {
        if (nargs == 1 && names == NULL) {
            if (PyDict_CheckExact(args[0]) && adder_put(self, args[0], NULL, NULL))
                Py_RETURN_NONE;
        }
        else if (nargs == 0 && names != NULL && adder_put(self, NULL, names, args))
            Py_RETURN_NONE;
    }
    return adder_in_python(self, name_add, args, nargs, names);
}

static PyObject *
adder_commit_record(Adder *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    if (nargs == 0 && names == NULL) {
        PyObject *pending = adder_at_hand(self);
        if (pending != NULL && adder_put(self, pending, NULL, NULL)) {
            PyDict_Clear(pending);
            Py_RETURN_NONE;
        }
    }
    return adder_in_python(self, name_commit, args, nargs, names);
}

PyDoc_STRVAR(add_record_doc,
"add_record($self, record=None, /, **values)\n--\n\n"
"Add one record: a dict, keywords, or both. It is safe from SIGKILL when this returns.\n\n"
"Values that are pending in this thread are included, and cleared.\n\n"
"Args:\n"
"    record: The values as a mapping. It is not kept: changing it later changes nothing.\n"
"    **values: More values, which win over those of `record`.\n\n"
"Raises:\n"
"    TypeError, ValueError: A value cannot be stored; nothing of the record is, and the exception carries it as\n"
"        `.record`.\n"
"    ClosedError: The experiment is closed.\n"
"    StoreError: The disk is full or failed. What was added before is safe.");

PyDoc_STRVAR(commit_record_doc,
"commit_record($self, record=None, /, *, additional_info=None, **values)\n--\n\n"
"Add the pending record of this thread, together with what is given, and clear it.\n\n"
"Args:\n"
"    record: More values as a mapping.\n"
"    additional_info: More values as a mapping, as in the originals.\n"
"    **values: More values as keywords.\n\n"
"Raises:\n"
"    As `add_record`; a refused record is cleared as well, and the exception carries it as `.record`.");

static PyMethodDef adder_methods[] = {
    {"add_record", (PyCFunction)(void (*)(void))adder_add_record, METH_FASTCALL | METH_KEYWORDS, add_record_doc},
    {"commit_record", (PyCFunction)(void (*)(void))adder_commit_record, METH_FASTCALL | METH_KEYWORDS, commit_record_doc},
    {NULL},
};

static PyGetSetDef adder_getset[] = {
    {"_journal", (getter)adder_get_journal, (setter)adder_set_journal, NULL, NULL},
    {"_pendings", (getter)adder_get_pendings, (setter)adder_set_pendings, NULL, NULL},
    {"pending_record", (getter)adder_get_pending, NULL,
     "The record that this thread is filling bit by bit; `commit_record()` adds it.", NULL},
    {NULL},
};

static PyMemberDef adder_members[] = {
    {"token", T_OBJECT_EX, offsetof(Adder, token), 0, NULL},
    {"_defined", T_OBJECT_EX, offsetof(Adder, defined), 0, NULL},
    {"switch", T_OBJECT_EX, offsetof(Adder, change), 0, NULL},
    {NULL},
};

static PyType_Slot adder_slots[] = {
    {Py_tp_doc, "Who adds records."},
    {Py_tp_new, adder_new},
    {Py_tp_dealloc, adder_dealloc},
    {Py_tp_traverse, adder_traverse},
    {Py_tp_clear, adder_clear},
    {Py_tp_methods, adder_methods},
    {Py_tp_getset, adder_getset},
    {Py_tp_members, adder_members},
    {0, NULL},
};

static PyType_Spec adder_spec = {
    "rigorous_recorder._native.Adder", sizeof(Adder), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    adder_slots,
};

/* ---- walk: where the entries of a span are ------------------------------------------------------------------------ */

enum { LONG = 240, ROWS = 244, COLUMNS = 245, LAST_KIND = 247, SWITCH = 0xce, ENTRY_HEAD = 5 };

/* Numbers that become an array('I'). */
typedef struct {
    uint32_t *items;
    size_t count, room;
} Numbers;

static int
numbers_add(Numbers *numbers, uint32_t item)
{
    if (numbers->count == numbers->room) {
        size_t room = numbers->room ? 2 * numbers->room : 1024;
        uint32_t *items = PyMem_Realloc(numbers->items, room * sizeof *items);
        if (items == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        numbers->items = items;
        numbers->room = room;
    }
    numbers->items[numbers->count++] = item;
    return 0;
}

static PyObject *
numbers_bytes(const Numbers *numbers)
{
    return PyBytes_FromStringAndSize((const char *)numbers->items, (Py_ssize_t)(numbers->count * sizeof *numbers->items));
}

static inline uint32_t
little(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint32_t
big(const uint8_t *at)
{
    return at[3] | (uint32_t)at[2] << 8 | (uint32_t)at[1] << 16 | (uint32_t)at[0] << 24;
}

static int
append_new(PyObject *list, PyObject *item)
{
    int failed = item == NULL || PyList_Append(list, item) < 0;
    Py_XDECREF(item);
    return failed;
}

PyDoc_STRVAR(walk_doc,
"walk($module, data, position, stop, level, rows)\n--\n\n"
"Where the entries of a span are, as `Replay._walk` finds out.\n\n"
"Returns:\n"
"    (position behind the last entry; level in force; number of rows; starts, stops and levels of the single records as\n"
"    bytes of native u32; events as (kind, payload, row); entries without a record as (start, stop); the unknown kind at\n"
"    which it stopped, or None)");

static PyObject *
walk(PyObject *module, PyObject *args)
{
    Py_buffer view;
    Py_ssize_t position, stop;
    unsigned long long level, rows;
    Numbers starts = {0}, stops = {0}, levels = {0};
    PyObject *events = NULL, *wrong = NULL, *result = NULL;
    long unknown = -1;

    if (!PyArg_ParseTuple(args, "y*nnKK", &view, &position, &stop, &level, &rows))
        return NULL;
    const uint8_t *data = view.buf;
    if (position < 0 || stop > view.len) {
        PyErr_SetString(PyExc_ValueError, "a span outside of the data");
        goto done;
    }
    if ((events = PyList_New(0)) == NULL || (wrong = PyList_New(0)) == NULL)
        goto done;
    while (position < stop) {
        uint8_t mark = data[position];
        Py_ssize_t start;
        if (mark == 0)
            break;
        if (mark <= SHORT_MAX) {
            start = position + 1;
            position = start + mark;
        }
        else if (mark <= LAST_KIND) {
            start = position + ENTRY_HEAD;
            if (start > stop) {
                position = stop + 1;
                break;
            }
            position = start + (Py_ssize_t)little(data + position + 1);
            if (mark != LONG) {
                if (position <= stop) {
                    if (append_new(events, Py_BuildValue("By#K", mark, (const char *)data + start, position - start, rows)))
                        goto done;
                    if (mark == ROWS || mark == COLUMNS) {
                        /* no block has more rows than bytes: one that says so has none */
                        if (position - start >= 8 && (Py_ssize_t)little(data + start + 4) <= position - start - 8)
                            rows += little(data + start + 4);
                        else if (append_new(wrong, Py_BuildValue("nn", start, position)))
                            goto done;
                    }
                }
                continue;
            }
        }
        else {
            unknown = mark;
            break;
        }
        if (position > stop)
            break;
        if (position == start || (data[start] == SWITCH && position - start <= SWITCH_SIZE)) {
            if (append_new(wrong, Py_BuildValue("nn", start, position)))
                goto done;
            continue;
        }
        if (data[start] == SWITCH) {
            level = big(data + start + 1);
            start += SWITCH_SIZE;
        }
        if (numbers_add(&starts, (uint32_t)start) || numbers_add(&stops, (uint32_t)position)
            || numbers_add(&levels, (uint32_t)level))
            goto done;
        rows++;
    }
    result = Py_BuildValue("nKKNNNOON", position, level, rows, numbers_bytes(&starts), numbers_bytes(&stops),
                           numbers_bytes(&levels), events, wrong,
                           unknown < 0 ? Py_NewRef(Py_None) : PyLong_FromLong(unknown));
done:
    Py_XDECREF(events);
    Py_XDECREF(wrong);
    PyMem_Free(starts.items);
    PyMem_Free(stops.items);
    PyMem_Free(levels.items);
    PyBuffer_Release(&view);
    return result;
}

/* ---- the module -------------------------------------------------------------------------------------------------- */

static PyMethodDef module_methods[] = {
    {"walk", walk, METH_VARARGS, walk_doc},
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "rigorous_recorder._native", "What is done for every record, in C.", -1, module_methods,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    PyObject *self = PyModule_Create(&module);
    PyObject *adder = NULL;

    if (self == NULL)
        return NULL;
    name_add = PyUnicode_InternFromString("_add_in_python");
    name_commit = PyUnicode_InternFromString("_commit_in_python");
    name_pending = PyUnicode_InternFromString("_find_pending");
    cursor_type = (PyTypeObject *)PyType_FromSpec(&cursor_spec);
    adder = PyType_FromSpec(&adder_spec);
    if (name_add == NULL || name_commit == NULL || name_pending == NULL || cursor_type == NULL || adder == NULL
        || PyModule_AddObjectRef(self, "Cursor", (PyObject *)cursor_type) < 0
        || PyModule_AddObjectRef(self, "Adder", adder) < 0) {
        Py_XDECREF(adder);
        Py_DECREF(self);
        return NULL;
    }
    Py_DECREF(adder);
    return self;
}
