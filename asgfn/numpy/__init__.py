"""`asgfn.numpy`: NumPy's functions on asgfn arrays, with JAX's promotion, as thin functions over `asgfn.lax`.

Names, arguments and results are those of `jax.numpy`; the namespace follows the Python array API standard 2024.12.
Arrays are immutable, so nothing works in place: `x.at[i].set(v)` stands for `x[i] = v`. Functions whose result's shape
depends on values (`nonzero`, `unique`, ...) take `size=` under `jit`.
"""

# A block for each module, in the order of topics.
# isort: off
from __future__ import annotations

import importlib as _importlib
import math as _math
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from numpy import (
    get_printoptions as get_printoptions,
    index_exp as index_exp,
    iterable as iterable,
    printoptions as printoptions,
    s_ as s_,
    set_printoptions as set_printoptions,
)
from numpy.exceptions import ComplexWarning as ComplexWarning

from asgfn.tracing import Array as _Array
from asgfn.numpy.dtype_tools import (
    astype as astype,
    bfloat16 as bfloat16,
    bool_ as bool_,
    can_cast as can_cast,
    cdouble as cdouble,
    character as character,
    complex128 as complex128,
    complex64 as complex64,
    complex_ as complex_,
    complexfloating as complexfloating,
    csingle as csingle,
    double as double,
    dtype as dtype,
    finfo as finfo,
    flexible as flexible,
    float16 as float16,
    float32 as float32,
    float64 as float64,
    float_ as float_,
    floating as floating,
    generic as generic,
    iinfo as iinfo,
    inexact as inexact,
    int16 as int16,
    int32 as int32,
    int64 as int64,
    int8 as int8,
    int_ as int_,
    integer as integer,
    iscomplexobj as iscomplexobj,
    isdtype as isdtype,
    isrealobj as isrealobj,
    isscalar as isscalar,
    issubdtype as issubdtype,
    number as number,
    object_ as object_,
    promote_types as promote_types,
    result_type as result_type,
    signedinteger as signedinteger,
    single as single,
    uint as uint,
    uint16 as uint16,
    uint32 as uint32,
    uint64 as uint64,
    uint8 as uint8,
    unsignedinteger as unsignedinteger,
)
from asgfn.numpy.array_api import (
    __array_api_version__ as __array_api_version__,
    __array_namespace_info__ as __array_namespace_info__,
)
from asgfn.numpy.creation import (
    array as array,
    asarray as asarray,
    copy as copy,
    empty as empty,
    empty_like as empty_like,
    from_dlpack as from_dlpack,
    frombuffer as frombuffer,
    fromfile as fromfile,
    fromfunction as fromfunction,
    fromiter as fromiter,
    fromstring as fromstring,
    full as full,
    full_like as full_like,
    ones as ones,
    ones_like as ones_like,
    zeros as zeros,
    zeros_like as zeros_like,
)
from asgfn.numpy.ranges import (
    arange as arange,
    geomspace as geomspace,
    indices as indices,
    linspace as linspace,
    logspace as logspace,
    meshgrid as meshgrid,
    mgrid as mgrid,
    ogrid as ogrid,
)
from asgfn.numpy.windows import (
    bartlett as bartlett,
    blackman as blackman,
    hamming as hamming,
    hanning as hanning,
    kaiser as kaiser,
)
from asgfn.numpy.diagonals import (
    diag as diag,
    diag_indices as diag_indices,
    diag_indices_from as diag_indices_from,
    diagflat as diagflat,
    diagonal as diagonal,
    eye as eye,
    fill_diagonal as fill_diagonal,
    identity as identity,
    mask_indices as mask_indices,
    trace as trace,
    tri as tri,
    tril as tril,
    tril_indices as tril_indices,
    tril_indices_from as tril_indices_from,
    triu as triu,
    triu_indices as triu_indices,
    triu_indices_from as triu_indices_from,
    vander as vander,
)
from asgfn.numpy.manipulation import (
    atleast_1d as atleast_1d,
    atleast_2d as atleast_2d,
    atleast_3d as atleast_3d,
    broadcast_arrays as broadcast_arrays,
    broadcast_to as broadcast_to,
    expand_dims as expand_dims,
    flip as flip,
    fliplr as fliplr,
    flipud as flipud,
    matrix_transpose as matrix_transpose,
    moveaxis as moveaxis,
    ndim as ndim,
    permute_dims as permute_dims,
    ravel as ravel,
    reshape as reshape,
    roll as roll,
    rollaxis as rollaxis,
    rot90 as rot90,
    shape as shape,
    size as size,
    squeeze as squeeze,
    swapaxes as swapaxes,
    transpose as transpose,
)
from asgfn.numpy.joining import (
    array_split as array_split,
    block as block,
    column_stack as column_stack,
    concat as concat,
    concatenate as concatenate,
    dsplit as dsplit,
    dstack as dstack,
    hsplit as hsplit,
    hstack as hstack,
    repeat as repeat,
    split as split,
    stack as stack,
    tile as tile,
    unstack as unstack,
    vsplit as vsplit,
    vstack as vstack,
)
from asgfn.numpy.padding import (
    pad as pad,
)
from asgfn.numpy.inserting import (
    append as append,
    delete as delete,
    insert as insert,
    place as place,
    put as put,
    resize as resize,
    trim_zeros as trim_zeros,
)
from asgfn.numpy.index_tricks import (
    c_ as c_,
    ix_ as ix_,
    r_ as r_,
    ravel_multi_index as ravel_multi_index,
    unravel_index as unravel_index,
)
from asgfn.numpy.bits import (
    packbits as packbits,
    unpackbits as unpackbits,
)
from asgfn.numpy.ufunc import (
    ufunc as ufunc,
)
from asgfn.numpy.ufuncs import (
    abs as abs,
    absolute as absolute,
    acos as acos,
    acosh as acosh,
    add as add,
    arccos as arccos,
    arccosh as arccosh,
    arcsin as arcsin,
    arcsinh as arcsinh,
    arctan as arctan,
    arctan2 as arctan2,
    arctanh as arctanh,
    asin as asin,
    asinh as asinh,
    atan as atan,
    atan2 as atan2,
    atanh as atanh,
    bitwise_and as bitwise_and,
    bitwise_count as bitwise_count,
    bitwise_invert as bitwise_invert,
    bitwise_left_shift as bitwise_left_shift,
    bitwise_not as bitwise_not,
    bitwise_or as bitwise_or,
    bitwise_right_shift as bitwise_right_shift,
    bitwise_xor as bitwise_xor,
    cbrt as cbrt,
    ceil as ceil,
    conj as conj,
    conjugate as conjugate,
    cos as cos,
    cosh as cosh,
    divide as divide,
    equal as equal,
    exp as exp,
    exp2 as exp2,
    expm1 as expm1,
    fabs as fabs,
    floor as floor,
    greater as greater,
    greater_equal as greater_equal,
    imag as imag,
    invert as invert,
    isfinite as isfinite,
    isinf as isinf,
    isnan as isnan,
    isneginf as isneginf,
    isposinf as isposinf,
    left_shift as left_shift,
    less as less,
    less_equal as less_equal,
    log as log,
    log1p as log1p,
    logical_and as logical_and,
    logical_not as logical_not,
    logical_or as logical_or,
    logical_xor as logical_xor,
    maximum as maximum,
    minimum as minimum,
    multiply as multiply,
    negative as negative,
    not_equal as not_equal,
    positive as positive,
    real as real,
    reciprocal as reciprocal,
    right_shift as right_shift,
    sign as sign,
    sin as sin,
    sinh as sinh,
    sqrt as sqrt,
    square as square,
    subtract as subtract,
    tan as tan,
    tanh as tanh,
    true_divide as true_divide,
)
from asgfn.numpy.arithmetic import (
    around as around,
    divmod as divmod,
    fix as fix,
    float_power as float_power,
    floor_divide as floor_divide,
    fmod as fmod,
    gcd as gcd,
    lcm as lcm,
    mod as mod,
    pow as pow,
    power as power,
    remainder as remainder,
    rint as rint,
    round as round,
    trunc as trunc,
)
from asgfn.numpy.floating_bits import (
    copysign as copysign,
    frexp as frexp,
    ldexp as ldexp,
    modf as modf,
    nextafter as nextafter,
    signbit as signbit,
    spacing as spacing,
)
from asgfn.numpy.elementwise import (
    angle as angle,
    clip as clip,
    deg2rad as deg2rad,
    degrees as degrees,
    fmax as fmax,
    fmin as fmin,
    heaviside as heaviside,
    hypot as hypot,
    i0 as i0,
    log10 as log10,
    log2 as log2,
    logaddexp as logaddexp,
    logaddexp2 as logaddexp2,
    nan_to_num as nan_to_num,
    rad2deg as rad2deg,
    radians as radians,
    real_if_close as real_if_close,
    sinc as sinc,
)
from asgfn.numpy.comparing import (
    allclose as allclose,
    array_equal as array_equal,
    array_equiv as array_equiv,
    isclose as isclose,
    iscomplex as iscomplex,
    isreal as isreal,
)
from asgfn.numpy.selection import (
    argwhere as argwhere,
    choose as choose,
    compress as compress,
    extract as extract,
    flatnonzero as flatnonzero,
    nonzero as nonzero,
    piecewise as piecewise,
    select as select,
    where as where,
)
from asgfn.numpy.reductions import (
    all as all,
    amax as amax,
    amin as amin,
    any as any,
    argmax as argmax,
    argmin as argmin,
    count_nonzero as count_nonzero,
    max as max,
    mean as mean,
    min as min,
    prod as prod,
    ptp as ptp,
    std as std,
    sum as sum,
    var as var,
)
from asgfn.numpy.nan_reductions import (
    nanargmax as nanargmax,
    nanargmin as nanargmin,
    nancumprod as nancumprod,
    nancumsum as nancumsum,
    nanmax as nanmax,
    nanmean as nanmean,
    nanmin as nanmin,
    nanprod as nanprod,
    nanstd as nanstd,
    nansum as nansum,
    nanvar as nanvar,
)
from asgfn.numpy.cumulative import (
    cumprod as cumprod,
    cumsum as cumsum,
    cumulative_prod as cumulative_prod,
    cumulative_sum as cumulative_sum,
    diff as diff,
    ediff1d as ediff1d,
    gradient as gradient,
    trapezoid as trapezoid,
)
from asgfn.numpy.statistics import (
    average as average,
    corrcoef as corrcoef,
    cov as cov,
)
from asgfn.numpy.quantiles import (
    median as median,
    nanmedian as nanmedian,
    nanpercentile as nanpercentile,
    nanquantile as nanquantile,
    percentile as percentile,
    quantile as quantile,
)
from asgfn.numpy.histograms import (
    bincount as bincount,
    histogram as histogram,
    histogram2d as histogram2d,
    histogram_bin_edges as histogram_bin_edges,
    histogramdd as histogramdd,
)
from asgfn.numpy.sorting import (
    argpartition as argpartition,
    argsort as argsort,
    digitize as digitize,
    lexsort as lexsort,
    partition as partition,
    searchsorted as searchsorted,
    sort as sort,
    sort_complex as sort_complex,
)
from asgfn.numpy.sets import (
    intersect1d as intersect1d,
    isin as isin,
    setdiff1d as setdiff1d,
    setxor1d as setxor1d,
    union1d as union1d,
    unique as unique,
    unique_all as unique_all,
    unique_counts as unique_counts,
    unique_inverse as unique_inverse,
    unique_values as unique_values,
)
from asgfn.numpy.polynomials import (
    poly as poly,
    polyadd as polyadd,
    polyder as polyder,
    polydiv as polydiv,
    polyfit as polyfit,
    polyint as polyint,
    polymul as polymul,
    polysub as polysub,
    polyval as polyval,
    roots as roots,
)
from asgfn.numpy.signal import (
    convolve as convolve,
    correlate as correlate,
    interp as interp,
    unwrap as unwrap,
)
from asgfn.numpy.apply import (
    apply_along_axis as apply_along_axis,
    apply_over_axes as apply_over_axes,
    frompyfunc as frompyfunc,
    vectorize as vectorize,
)
from asgfn.numpy.files import (
    array_repr as array_repr,
    array_str as array_str,
    load as load,
    save as save,
    savez as savez,
)
from asgfn.numpy.indexing import (
    put_along_axis as put_along_axis,
    take as take,
    take_along_axis as take_along_axis,
)
from asgfn.numpy.products import (
    cross as cross,
    dot as dot,
    inner as inner,
    kron as kron,
    matmul as matmul,
    matvec as matvec,
    outer as outer,
    tensordot as tensordot,
    vdot as vdot,
    vecdot as vecdot,
    vecmat as vecmat,
)
from asgfn.numpy.einsum import (
    einsum as einsum,
    einsum_path as einsum_path,
)
from asgfn.numpy.arguments import broadcast_shapes as broadcast_shapes
from asgfn.numpy import array_methods as array_methods  # gives Array its operators and methods

ndarray = _Array
bool = bool_
newaxis = None
e = _math.e
pi = _math.pi
inf = _math.inf
nan = _math.nan
euler_gamma = 0.5772156649015329


if _TYPE_CHECKING:
    from asgfn.numpy import fft as fft
    from asgfn.numpy import linalg as linalg


def __getattr__(name: str) -> _Any:
    """`linalg` and `fft` are loaded when first used."""
    if name in ("fft", "linalg"):
        return _importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
