/* SPDX-License-Identifier: MIT */
/* The logger "pheap", for programs that have imported logging; others do not pay for its import. */
#include "python/src/module.h"

#include <stdarg.h>

static PyObject *logger(void)
{
    PyObject *name = PyUnicode_FromString("logging");
    PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
    PyObject *found = module == NULL ? NULL : PyObject_CallMethod(module, "getLogger", "s", "pheap");
    Py_XDECREF(module);
    Py_XDECREF(name);
    return found;
}

int pp_log(const char *level, const char *format, ...)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *target = logger();
    if (target != NULL) {
        va_list arguments;
        va_start(arguments, format);
        PyObject *text = PyUnicode_FromFormatV(format, arguments);
        va_end(arguments);
        PyObject *done = text == NULL ? NULL : PyObject_CallMethod(target, level, "sO", "%s", text);
        Py_XDECREF(done);
        Py_XDECREF(text);
        Py_DECREF(target);
    }
    if (type == NULL)
        return PyErr_Occurred() == NULL ? 0 : -1;
    if (PyErr_Occurred() != NULL)
        PyErr_WriteUnraisable(NULL);
    PyErr_Restore(type, value, traceback);
    return -1;
}
