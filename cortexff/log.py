"""The HDF5 file of a run: writes and reads, never computes.

One file per run. The root holds where the run came from (attributes) and the dimensions that every group shares
(subject, area, step, ...). Each group, one per variant and condition such as ``max/deprived``, holds variables
that grow along a dimension of its own, ``probe``. The file follows the netCDF-4 conventions, so that h5py, xarray,
netCDF4, MATLAB and R open it, also after a crash and while the run still writes.

Every row is flushed as it is appended: a process that is killed loses at most the row in hand. (Killed in the
very millisecond of a flush, 3 of 120 files had that row in part, which xarray refuses until `Log.reopen` forgets it.)
The file is opened without a lock so that others can read it meanwhile: one process writes, any number read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cortexff.errors import CortexffError

if TYPE_CHECKING:
    import xarray

LOG_FORMAT = "cortexff 1"
ROWS_PER_CHUNK = 16
SMALLEST_CHUNK = 2**14  # bytes; what is smaller and written once needs none, whose index is 2 kB and more
LARGEST_CHUNK = 2**20  # bytes; the size of HDF5's own chunk cache, beyond which every access goes to the disk
IN_MEMORY = {"driver": "core", "backing_store": False}  # for h5py: nothing reaches the disk
OF_SCALES = ("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid")  # attributes that HDF5 keeps there
DIMENSION_ONLY = "This is a netCDF dimension but not a netCDF variable. %9d"  # the wording netCDF looks for


@dataclass(frozen=True)
class Variable:
    """What one variable of a log is, in the words that a reader of the file will find beside it.

    dims         names of its dimensions; a variable that grows names the growing dimension first
    units        "1" for a number without unit
    long_name    its meaning in a few words
    formula      how it was computed, where it was
    dtype        a numpy number ("f4", "f8", "i8", ...) or "str"
    coordinates  variables beside it that say where along its dimensions a value lies, with blanks between
    """

    dims: tuple[str, ...]
    units: str
    long_name: str
    formula: str = ""
    dtype: str = "f4"
    coordinates: str = ""


class Log:
    """A log open for writing. As a context manager it notes how the run ended: finished, interrupted or failed.

    Where the root has an attribute ``seconds``, the time for which the log was open is added to it.

    A row is a dict of arrays, one per variable, without the growing dimension. Groups are named by their path,
    "max/deprived"; "/" is the root.
    """

    def __init__(self, file: h5py.File):
        self.file, self._opened = file, time.monotonic()
        self.path: str = file.filename

    @classmethod
    def create(
        cls,
        path: str | Path,
        provenance: Mapping[str, Any],
        dimensions: Mapping[str, Sequence | np.ndarray],
        overwrite: bool = False,
        in_memory: bool = False,
    ) -> Log:
        """Start a new file, with its folder where there is none; with ``in_memory`` one that is never written.

        provenance  texts and numbers that say where the run came from; become attributes of the root
        dimensions  name -> coordinates (numbers or texts) of each dimension that all groups share
        """
        path = Path(path)
        attributes = _attributes({"status": "running", **provenance})
        coordinates = {name: _coordinates(name, values) for name, values in dimensions.items()}
        try:
            if in_memory:
                file = h5py.File(path, "w", track_order=True, **IN_MEMORY)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                file = h5py.File(path, "w" if overwrite else "x", track_order=True, locking=False)
        except FileExistsError as error:
            problem = "exists; --out another file, or --overwrite" if path.exists() else "is not in a folder"
            raise CortexffError(f"{path} {problem}") from error
        except OSError as error:
            raise CortexffError(f"cannot write {path} in folder {path.parent.absolute()}: {error}") from error
        log = cls(file)
        file.attrs.update({"Conventions": "CF-1.11", "log_format": LOG_FORMAT, **attributes})
        for name, values in coordinates.items():
            scale = file.create_dataset(name, data=values)
            scale.make_scale(name)
            _describe(scale, Variable((name,), "1", name))
        log.flush()
        return log

    @classmethod
    def reopen(cls, path: str | Path, in_memory: bool = False) -> Log:
        """Open the log of an earlier run to write on; a row that a crash left half-made is forgotten.

        in_memory  write on a copy that goes with the process
        """
        log = cls(open_file(path, "r+", **(IN_MEMORY if in_memory else {})))
        log.file.attrs["status"] = "running"
        groups = [log.file]
        log.file.visititems(lambda _, item: groups.append(item) if isinstance(item, h5py.Group) else None)
        for group in groups:
            columns = _columns(group)
            rows = min((len(column) for column in columns.values()), default=0)
            while rows and not _readable(columns, rows - 1):
                rows -= 1
            _resize(columns, rows)
        log.flush()
        return log

    def declare(self, group: str, growing: str = "probe", variables: Mapping[str, Variable] | None = None) -> None:
        """Make the growing dimension of a group and the variables along it; what is there already is left as it is.

        A variable named like the growing dimension gives its coordinates (a stage's name, say); without one the
        rows count 0, 1, 2, ... A variable that joins late is NaN, "" or 0 in the rows before it.
        """
        stated = variables or {}
        holder = self._group(group)
        columns = _columns(holder)
        if columns and growing not in columns:
            raise CortexffError(f"{self._name(group)} grows along {next(iter(columns))!r}, not {growing!r}")
        for name, variable in stated.items():
            where = self._name(group, name)
            if variable.dims[:1] != (growing,) or len(set(variable.dims)) != len(variable.dims):
                raise CortexffError(f"{where}: dims {variable.dims} must differ and begin with {growing!r}")
            if name in columns:
                _same(columns[name], variable, where)
        # The growing dimension comes first: the others attach to it.
        wanted = {growing: Variable((growing,), "1", f"{growing} number", dtype="i8")} | dict(stated)
        for name, variable in wanted.items():
            if name not in columns:
                self._declare_one(holder, name, variable, _length(columns))
        self.flush()

    def _declare_one(self, holder: h5py.Group, name: str, variable: Variable, rows: int) -> None:
        where = self._name(holder.name, name)
        if variable.dims == (name,):
            self._refuse_second_dimension(holder, name)
            dataset = holder.create_dataset(name, (0,), _dtype(variable, where), maxshape=(None,), chunks=(1024,))
            dataset.make_scale(name)
        else:
            self._refuse_taken_name(holder, name)
            scales = [self._scale(holder, dim, where) for dim in variable.dims[1:]]
            shape = (rows, *(len(scale) for scale in scales))
            dataset = _make(holder, name, shape, _dtype(variable, where), growing=True)
            _attach(dataset, [holder[variable.dims[0]], *scales])
        _describe(dataset, variable)

    def append(self, group: str, row: Mapping[str, Any]) -> None:
        """Add one row to every variable of a group at once, and flush.

        A variable that is left out becomes NaN (floats), "" (texts) or the number of the row (the growing
        dimension); a whole number cannot be missing.
        """
        columns = self._columns_of(group)
        if not columns:
            raise CortexffError(f"{self._name(group)} has no growing variables: declare them before appending")
        for name in row:
            if name not in columns:
                raise CortexffError(f"{self._name(group)}: unknown variable {name!r} (known: {', '.join(columns)})")
        rows = _length(columns)
        growing = next(iter(columns))
        cells = {}
        for name, column in columns.items():
            where = self._name(group, name)
            if name in row:
                cells[name] = _fit(row[name], column.dtype, column.shape[1:], where)
            elif name == growing and column.dtype.kind in "iu":
                cells[name] = rows
            elif column.dtype.kind in "iu":
                raise CortexffError(f"{where}: a whole number cannot be missing from a row")
        try:
            _resize(columns, rows + 1)  # what is not written below keeps its fill value
            for name, cell in cells.items():
                columns[name][rows] = cell
        except BaseException:
            _resize(columns, rows)
            raise
        self.flush()

    def length(self, group: str) -> int:
        """Number of rows that a group holds; 0 where nothing was declared."""
        return _length(self._columns_of(group))

    def truncate(self, group: str, length: int) -> None:
        """Forget the rows from `length` on, such as those logged after the last checkpoint."""
        columns = self._columns_of(group)
        if not 0 <= length <= _length(columns):
            raise CortexffError(f"{self._name(group)}: cannot truncate {_length(columns)} rows to {length}")
        _resize(columns, length)
        self.flush()

    def write(self, group: str, name: str, values: Any, variable: Variable) -> None:
        """Write a variable of fixed size, or write it anew with the same shape.

        A dimension that neither the group nor those above it have is made here, without coordinates. A variable
        named like its only dimension gives that dimension's coordinates; it must come before those that use it.
        """
        holder = self._group(group)
        where = self._name(group, name)
        dtype = _dtype(variable, where)
        shape = np.shape(values)
        if len(variable.dims) != len(shape) or 0 in shape or len(set(variable.dims)) != len(shape):
            raise CortexffError(f"{where}: shape {shape} does not fit dims {variable.dims}")
        cells = _fit(values, dtype, shape, where)
        there = holder.get(name)
        if isinstance(there, h5py.Dataset) and "units" in there.attrs:  # a dimension without coordinates has none
            _same(there, variable, where)
            if there.shape != shape or there.maxshape != shape:
                raise CortexffError(f"{where}: shape {shape} cannot replace {there.shape}")
            there[...] = cells
        elif variable.dims == (name,):
            self._refuse_second_dimension(holder, name)
            holder.create_dataset(name, data=cells, dtype=dtype).make_scale(name)
        else:
            self._refuse_taken_name(holder, name)
            scales = [self._scale(holder, dim, where, size) for dim, size in zip(variable.dims, shape, strict=True)]
            dataset = _make(holder, name, shape, dtype, growing=False)
            dataset[...] = cells
            _attach(dataset, scales)
        _describe(holder[name], variable)
        self.flush()

    def attributes(self, group: str, values: Mapping[str, Any]) -> None:
        """Set attributes (texts and numbers) of a group, or of the variable that the path names."""
        item = self.file[group] if group in self.file else self._group(group)
        item.attrs.update(_attributes(values))
        self.flush()

    def attribute(self, name: str) -> Any:
        """An attribute of the root."""
        return self.file.attrs[name]

    def flush(self) -> None:
        """Hand everything to the operating system: from here on a crash of this process loses none of it."""
        self.file.flush()

    def close(self, status: str) -> None:
        """Note how the run ended and close the file; a second call does nothing."""
        if self.file:
            about = self.file.attrs
            about["status"] = status
            if "seconds" in about:
                about["seconds"] += time.monotonic() - self._opened
            self.file.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        ended = "finished" if kind is None else "failed" if issubclass(kind, Exception) else "interrupted"
        self.close(ended)

    def _name(self, group: str, name: str = "") -> str:
        return f"{self.path}:/{'/'.join(filter(None, [group.strip('/'), name]))}"

    def _columns_of(self, path: str) -> dict[str, h5py.Dataset]:
        holder = self.file.get(path.strip("/") or "/")
        return _columns(holder) if isinstance(holder, h5py.Group) else {}

    def _group(self, path: str) -> h5py.Group:
        """The group of that path, made part by part so that each part keeps its members in order."""
        group = self.file
        for part in filter(None, path.split("/")):
            group = group[part] if part in group else group.create_group(part, track_order=True)
            if not isinstance(group, h5py.Group):
                raise CortexffError(f"{self._name(path)}: {group.name} is a variable, not a group")
        return group

    def _scale(self, holder: h5py.Group, dim: str, where: str, size: int | None = None) -> h5py.Dataset:
        """The scale of a dimension: the nearest one going up from the group, else (given a size) a new one here."""
        scale = _visible(holder, dim)
        if scale is None and size is None:
            known = ", ".join(name for name, item in self.file.items() if _is_scale(item))
            raise CortexffError(f"{where}: unknown dimension {dim!r} (shared dimensions: {known})")
        if scale is None:
            self._refuse_second_dimension(holder, dim)
            scale = dimension_only(holder, dim, size)
        elif scale.maxshape[0] is None:
            raise CortexffError(f"{where}: {dim!r} grows, and can only be the first of declared dims")
        elif size not in (None, len(scale)):
            raise CortexffError(f"{where}: {size} entries along {dim!r}, which has {len(scale)}")
        return scale

    def _refuse_second_dimension(self, holder: h5py.Group, dim: str) -> None:
        # xarray opens no file at all in which a group and one inside it disagree on a dimension.
        below = []
        holder.visit(lambda path: below.append(path) if path.split("/")[-1] == dim else None)
        if below or _visible(holder, dim) is not None:
            raise CortexffError(f"{self._name(holder.name)}: the name {dim!r} is taken here, above or inside")

    def _refuse_taken_name(self, holder: h5py.Group, name: str) -> None:
        if not name or "/" in name or name in holder or _visible(holder, name) is not None:
            raise CortexffError(f"{self._name(holder.name)}: the name {name!r} is taken, or no name for a variable")


def open_results(path: str | Path) -> xarray.DataTree:
    """A log as an xarray DataTree, as it is at that moment; also while the run still writes.

    ``open_results(path)["max/deprived"]["fp_neg"].sel(subject=3)``.
    """
    import xarray

    # Not xarray's own reader: for each variable it asks all others how far they have grown, which takes minutes.
    found = {}

    def read(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group):
            # A dimension without coordinates has no units.
            variables = {key: _as_xarray(one) for key, one in item.items() if "units" in one.attrs}
            dataset = xarray.Dataset(variables, attrs=dict(item.attrs))
            found[name] = xarray.decode_cf(dataset, decode_times=False, decode_timedelta=False)

    with open_file(path) as file:
        read("/", file)
        file.visititems(read)
    return xarray.DataTree.from_dict(found)


def _as_xarray(dataset: h5py.Dataset) -> xarray.Variable:
    import xarray

    attributes = {name: dataset.attrs[name] for name in dataset.attrs if name not in OF_SCALES}
    return xarray.Variable(variable_of(dataset).dims, contents(dataset), attributes)


def open_file(path: str | Path, mode: str = "r", **how: Any) -> h5py.File:
    """A log as a plain h5py file, opened as h5py is told; raises CortexffError where the path holds none."""
    path = Path(path)
    if not path.is_file():
        raise CortexffError(f"{path}: no such file")
    try:
        file = h5py.File(path, mode, locking=False, **how)
    except OSError as error:
        raise CortexffError(f"{path}: not an HDF5 file, cut short, or not permitted: {error}") from error
    if file.attrs.get("log_format") != LOG_FORMAT:
        found = file.attrs.get("log_format")
        file.close()
        raise CortexffError(f"{path}: not a log of cortexff (log_format {found!r}, should be {LOG_FORMAT!r})")
    return file


def dimension_only(holder: h5py.Group, name: str, size: int) -> h5py.Dataset:
    """A dimension of a group, without coordinates; one of size 0 grows."""
    grows = {} if size else {"maxshape": (None,), "chunks": (1024,)}
    scale = holder.create_dataset(name, (size,), ">f4", **grows)
    scale.make_scale(DIMENSION_ONLY % size)
    return scale


def contents(dataset: h5py.Dataset) -> np.ndarray:
    """All that a variable of an open file holds, texts as str."""
    return dataset.asstr()[()] if dataset.dtype.kind == "O" else dataset[()]


def variable_of(dataset: h5py.Dataset) -> Variable:
    """What a variable of an open file is, as it was declared."""
    scales = [dataset] if dataset.is_scale else [dimension[0] for dimension in dataset.dims]
    texts = {name: dataset.attrs.get(name, "") for name in ("units", "long_name", "formula", "coordinates")}
    dtype = "str" if dataset.dtype.kind == "O" else dataset.dtype.str[1:]
    return Variable(tuple(scale.name.split("/")[-1] for scale in scales), dtype=dtype, **texts)


def _attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        if not isinstance(value, str) and (np.ndim(value) or np.asarray(value).dtype.kind not in "biuf"):
            raise CortexffError(f"attribute {name!r}: {value!r} is neither a text nor a number of at most 64 bits")
    # netCDF knows no booleans.
    return {name: int(value) if isinstance(value, bool | np.bool_) else value for name, value in values.items()}


def _coordinates(name: str, values: Sequence | np.ndarray) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iufU" or "/" in name:
        raise CortexffError(f"dimension {name!r}: needs a list of numbers or texts, found {values!r}")
    return array.astype(h5py.string_dtype()) if array.dtype.kind == "U" else array


def _dtype(variable: Variable, where: str) -> np.dtype:
    if variable.dtype == "str":
        return h5py.string_dtype()
    if np.dtype(variable.dtype).kind not in "iuf":
        raise CortexffError(f'{where}: dtype {variable.dtype!r} is neither a float, a whole number nor "str"')
    return np.dtype(variable.dtype)


def _fit(value: Any, dtype: np.dtype, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The value as an array of that type and shape; nothing is broadcast, rounded or turned into text."""
    text = dtype.kind == "O"
    array = np.asarray(value, dtype=object if text else None)
    if array.shape != shape:
        raise CortexffError(f"{where}: shape {array.shape}, should be {shape}")
    if text and all(isinstance(item, str) for item in array.flat):
        return array
    if not text and array.dtype.kind in "biuf":
        with np.errstate(invalid="ignore"):  # NaN to a whole number: refused below
            cast = array.astype(dtype)
        if dtype.kind == "f" or np.array_equal(cast, array):
            return cast
    raise CortexffError(f"{where}: {value!r} is no {'text' if text else dtype.name}")


def _make(holder: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype, growing: bool) -> h5py.Dataset:
    if not growing and np.prod(shape, dtype=float) * dtype.itemsize < SMALLEST_CHUNK:
        return holder.create_dataset(name, shape, dtype)
    chunks = [ROWS_PER_CHUNK, *shape[1:]] if growing else list(shape)
    while np.prod(chunks, dtype=float) * dtype.itemsize > LARGEST_CHUNK:
        largest = int(np.argmax(chunks))
        chunks[largest] = -(-chunks[largest] // 2)
    # A compressed chunk moves in the file whenever a row joins it; killed in that moment, it takes its other rows with
    # it (56 of 60 kills; none of 60 uncompressed). So only what is written once is compressed.
    compressed = not growing and dtype.kind != "O"
    return holder.create_dataset(
        name,
        shape,
        dtype,
        maxshape=(None, *shape[1:]) if growing else None,
        chunks=tuple(chunks),
        fillvalue=np.nan if dtype.kind == "f" else None,
        **({"compression": "gzip", "compression_opts": 1, "shuffle": True} if compressed else {}),
    )


def _describe(dataset: h5py.Dataset, variable: Variable) -> None:
    dataset.attrs["units"] = variable.units
    dataset.attrs["long_name"] = variable.long_name
    for name in ("formula", "coordinates"):
        if text := getattr(variable, name):
            dataset.attrs[name] = text


def _attach(dataset: h5py.Dataset, scales: Sequence[h5py.Dataset]) -> None:
    for dimension, scale in zip(dataset.dims, scales, strict=True):
        dimension.attach_scale(scale)


def _is_scale(item: object) -> bool:
    return isinstance(item, h5py.Dataset) and item.is_scale


def _visible(holder: h5py.Group, dim: str) -> h5py.Dataset | None:
    """The scale that a dimension's name means in a group: its own, or the nearest above it."""
    while True:
        if _is_scale(holder.get(dim)):
            return holder[dim]
        if holder.name == "/":
            return None
        holder = holder.parent


def _columns(holder: h5py.Group) -> dict[str, h5py.Dataset]:
    """The variables of a group that grow, the growing dimension first."""
    grows = {k: v for k, v in holder.items() if isinstance(v, h5py.Dataset) and v.maxshape[:1] == (None,)}
    return dict(sorted(grows.items(), key=lambda item: not item[1].is_scale))


def _length(columns: Mapping[str, h5py.Dataset]) -> int:
    return len(next(iter(columns.values()))) if columns else 0


def _resize(columns: Mapping[str, h5py.Dataset], rows: int) -> None:
    for column in columns.values():
        column.resize(rows, axis=0)


def _readable(columns: Mapping[str, h5py.Dataset], row: int) -> bool:
    try:
        return all(column[row] is not None for column in columns.values())
    except OSError:
        return False


def _same(dataset: h5py.Dataset, variable: Variable, where: str) -> None:
    """A variable that exists keeps its meaning: the same dimensions, units and type."""
    found = (variable_of(dataset).dims, dataset.attrs["units"], dataset.dtype)
    wanted = (tuple(variable.dims), variable.units, _dtype(variable, where))
    if found != wanted:
        raise CortexffError(f"{where}: there already, with dims, units, dtype {found}; cannot become {wanted}")
