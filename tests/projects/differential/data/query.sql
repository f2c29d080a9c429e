select *
from rides
where day = :day
