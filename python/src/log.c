/* SPDX-License-Identifier: MIT */
/* The logger "pheap", for programs that have imported logging; others do not pay for its import. */
#include "python/src/module.h"

#include <stdarg.h>

/* pheap._log, if somebody has imported logging. */
static PyObject *logger(void)
{
    PyObject *name = PyUnicode_FromString("logging");
    PyObject *logging = name == NULL ? NULL : PyImport_GetModule(name);
    Py_XDECREF(name);
    if (logging == NULL)
        return NULL;
    Py_DECREF(logging);
    return PyImport_ImportModule("pheap._log");
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
        PyObject *done = text == NULL ? NULL : PyObject_CallMethod(target, "log", "ssO", level, "%s", text);
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
